"""Who tries out keys: each address may be wrong with so many, and then with one more now and then.

An item an address counts them for all containers, in a bucket as the limiter's (`limits`), and goes by its ``ttl``.
What a container has learned of an address bars it there without another look; a key that was good in this container is
let through to the store all the same, so that nobody's neighbour behind one address locks them out. And a key of which
it has said that it is wrong is not looked at again for a while, whyever it was wrong: none becomes good.
"""

from collections.abc import Mapping, Sequence
from ipaddress import IPv6Address, ip_address, ip_network
from typing import Any

from chalicelib.aws.table import ConditionFailed, Table, Write
from chalicelib.clock import SECOND
from chalicelib.keys import ShownKey
from chalicelib.log import logger

# A program with a wrong key asks with that one; ten different ones are no mistake of configuration.
BURST = 10
# Then one in so many µs: 256 bits are out of reach at any pace, so this bounds what the noise costs.
INTERVAL = 6 * SECOND
# What an address was wrong with lately is no new guess; a prefix of the digest tells it.
_TOLD_BY = 8
# A customer of an IPv6 provider has a /64 at least.
_IPV6_PREFIX = 64
# Neighbours may count between our look and our write; what is still contended then is guessing in earnest.
_TRIES = 4
# What a container took for wrong it looks at again after so many µs: its clock may have been ahead of an expiry.
_WRONG_AGE = 60 * SECOND
# Containers remember this many addresses and keys; forgetting costs a guess, or a wait.
_REMEMBERED = 1_000
# Seconds that an item stays after its bucket is full again.
_KEPT = 3600


class DynamoGuesses:
    """Wrong keys by address in the table; see ``ports.Guesses``."""

    def __init__(self, table: Table) -> None:
        """Use ``table``."""
        self._table = table
        self._barred: dict[str, int] = {}
        self._known: set[bytes] = set()
        self._wrong: dict[bytes, int] = {}

    def is_wrong(self, key: ShownKey, *, now: int) -> bool:
        """Say whether this container has lately said of a key that it is wrong."""
        return 0 <= now - self._wrong.get(key.digest, now - _WRONG_AGE) < _WRONG_AGE

    def barred(self, address: str, key: ShownKey, *, now: int) -> int | None:
        """Return until when an address may not try a key that this container does not know as good."""
        until = self._barred.get(_place(address), 0)
        return until if until > now and key.digest not in self._known else None

    def right(self, key: ShownKey) -> None:
        """Note that a key is good."""
        if len(self._known) >= _REMEMBERED:
            self._known.clear()
        self._known.add(key.digest)

    def wrong(self, key: ShownKey, *, now: int) -> None:
        """Note that a key is wrong."""
        if len(self._wrong) >= _REMEMBERED:
            self._wrong.clear()
        self._wrong[key.digest] = now

    def guessed(self, address: str, key: ShownKey, *, now: int) -> int | None:
        """Count a wrong key; return until when the address is barred, if it has been wrong too often."""
        place, mark = _place(address), key.digest[:_TOLD_BY]
        pk, sk = f"ADDRESS#{place}", "GUESSES"
        tat, tried = 0, list[bytes]()
        condition, values = "attribute_not_exists(pk)", dict[str, Any]()
        for _ in range(_TRIES):
            put = _counted(max(tat, now) + INTERVAL, [*tried, mark])
            try:
                self._table.write(Write(pk, sk, put=put, condition=condition, values=values))
            except ConditionFailed as failure:
                known = failure.old or {"tat": 0, "tried": []}
                tat, tried = known["tat"], known["tried"]
                if mark in tried:
                    return None
                if tat > now + (BURST - 1) * INTERVAL:
                    return self._bar(place, tat - (BURST - 1) * INTERVAL)
                condition, values = ("tat = :known", {":known": tat}) if tat else ("attribute_not_exists(pk)", {})
            else:
                return None
        return self._bar(place, now + INTERVAL)

    def _bar(self, place: str, until: int) -> int:
        if len(self._barred) >= _REMEMBERED:
            self._barred.clear()
        self._barred[place] = until
        logger.warning("keys are being tried out", extra={"facts": {"address": place}})
        return until


def _counted(tat: int, tried: Sequence[bytes]) -> Mapping[str, Any]:
    """Return the item of an address that has been wrong once more."""
    return {"tat": tat, "tried": list(tried[-BURST:]), "ttl": tat // SECOND + _KEPT}


def _place(address: str) -> str:
    """Return what stands for everybody who may have an address at their disposal."""
    try:
        caller = ip_address(address)
    except ValueError:
        return "unknown"
    if not isinstance(caller, IPv6Address):
        return str(caller)
    return str(caller.ipv4_mapped or ip_network((caller, _IPV6_PREFIX), strict=False))
