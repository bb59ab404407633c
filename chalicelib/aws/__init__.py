"""What we store: one DynamoDB table and one secret a provider key. The only package, with ``wiring``, that knows AWS.

Keys of the table:

================  ================================  ==================================================================
pk                sk                                item
================  ================================  ==================================================================
``T#<tenant>``    ``TENANT``                        settings, limiter, client keys' digests, and which clients
                                                    have asked for browser tokens
``T#<tenant>``    ``CLIENT#<client>``               a client, for the operator
``T#<tenant>``    ``TOKEN#<token>``                 a browser token: its digest, what it may do, and what its orders
                                                    cost; gone a day after its end
``T#<tenant>``    ``WALLET``                        ``available`` and ``held``, in micro-USD
``T#<tenant>``    ``LEDGER#<kind>#<id>``            one movement of money, written once
``T#<tenant>``    ``SPEND#<yyyy-mm-dd>``            ``spent``: what the orders of a UTC day cost, in micro-USD, of
                                                    tenants with a daily limit
``T#<tenant>``    ``ORDER#<id>``                    an order
``T#<tenant>``    ``REFILL#<id>``                   a refill that a panel accepted
``T#<tenant>``    ``CLAIM#<claim>``                 an idempotency key, or an order's meaning, and its order
``T#<tenant>``    ``LINK#<digest>``                 the last order on a service and a link; only of tenants who
                                                    refuse duplicates
``TENANTS``       ``<tenant>``                      that the tenant exists, for lists
``ORIGIN#<origin  ``<tenant>``                      that the tenant lists this web origin
``ADDRESS#<ip>``  ``GUESSES``                       what this address (IPv6: its /64) was wrong with lately
``PROVIDERS``     ``<provider>``                    configuration of a provider
``PROVIDERS``     ``NUMBER#<number>``               whose number it is, for ever
``PROVIDERS``     ``ACCOUNT#<provider>#<tenant>``   that the tenant has, or had, an account of its own there
``P#<provider>``  ``PACE``                          limiter of the provider
``P#<provider>``  ``SERVICE#<id>``                  one service
``P#<provider>``  ``CATALOG``                       version and size of the compressed list
``P#<provider>``  ``CATALOG#<version>#<n>``         a piece of it
``P#<account>``   ``BOUND#<order>``                 which of our orders a provider's order (20 digits) belongs to
``P#<account>``   ``OPEN#<time>#<tenant>#<id>``     an order whose purchase is not known, or that came late
``P#<account>``   ``REFUND#<time>#<tenant>#<id>``   an order that has ended, and what goes back of it is not known
``P#<account>``   ``MARK#<time>``                   what the account stood at (`ports.Mark`), for a week
``P#<account>``   ``SINCE``                         ``at``: marks before it are of another account, which the key
                                                    opened before; none: it is being changed
``KEYS#<account   ``VERSION#<version>``             a version of an account's key that was rotated to, step by step
``KEYS#<account   ``UNFINISHED``                    the version whose rotation has not ended
``KEYS#<account   ``REJECTED#<version>``            when the panel last rejected it, for a week
``AUDIT``         ``HEAD``                          number and hash of the journal's last record (`cli.journal`)
``AUDIT``         ``RECORD#<number>``               one act of an operator, or its outcome: a text and its SHA-256
================  ================================  ==================================================================

An account is called ``<provider>``, or ``<provider>#<tenant>`` where it is a tenant's own.
"""
