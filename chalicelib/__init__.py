"""Panelgate inside one Lambda: the map of this package and the way of a request.

1. ``api`` takes the HTTP request, whatever its encoding, and makes one typed call of it.
2. ``gateway.Gateway.admit`` authenticates and limits it in one conditional update (``aws.directory``).
3. ``gateway.Gateway.execute`` runs the use case over the Protocols of ``ports``.
4. For ``add``, ``ordering`` accepts the order, its claim and its money in one transaction (``aws.orders``).
5. ``calling`` asks a provider, ``tracking`` several at once; ``panels`` translates, purely, into dialects and back.
6. ``upstream`` is the only sender: it says whether a request was never sent, answered or lost.
7. ``purchase`` records the outcome, by the attempt's token alone; ``api`` renders the answer.
8. ``wiring`` builds all of it once per container; ``jobs`` runs the scheduled work over the same parts.
"""
