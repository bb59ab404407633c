"""The tenants' clients and their keys: made, rotated and revoked by the command line, never by a Lambda."""

import secrets
import string
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from chalicelib.aws.directory import ISSUERS, scope, scope_attributes
from chalicelib.aws.registry import Full, Missing
from chalicelib.aws.table import Item, Table, TransactionRefused, Write
from chalicelib.errors import StoreBusy
from chalicelib.keys import ClientKey, new_client_key, parse_client_key
from chalicelib.model import Scope

# The tenant's item, which holds them, is written on every request, and DynamoDB charges by the kilobyte.
MAX_KEYS = 20
_CLIENT_SUFFIX = 6
# Neighbours may change a client's keys between a look at them and the transaction that rests on it; each time that
# happens one of them is done, and operators are few.
_TRIES = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Client:
    """A program of a tenant; times in epoch µs. ``keys`` are the ids of its keys that may work, never the keys.

    ``used`` is when one of its keys was admitted last, None if none ever was. ``test``: its keys are for test mode.
    """

    id: str
    tenant: str
    name: str
    scope: Scope
    created: int
    expires: int | None = None
    revoked: bool = False
    keys: tuple[str, ...] = ()
    used: int | None = None
    test: bool = False


@dataclass(frozen=True, slots=True)
class IssuedKey:
    """A client and its new key, which is stored nowhere and shown once."""

    client: Client
    key: str


class Clients:
    """The operator's acts on clients; a client's id begins with its tenant's."""

    def __init__(self, table: Table) -> None:
        """Use ``table``."""
        self._table = table

    def of(self, tenant_id: str) -> list[Client]:
        """Return a tenant's clients, revoked ones too.

        Raises:
            Missing: there is no such tenant.
        """
        stored, now = self._keys(tenant_id), self._table.clock.now()
        return [_as_used(_client(item), stored, now) for item in self._table.query(f"T#{tenant_id}", "CLIENT#")]

    def _keys(self, tenant_id: str) -> Mapping[str, Item]:
        item = self._table.get(f"T#{tenant_id}", "TENANT")
        if item is None:
            raise Missing(f"there is no tenant {tenant_id}")
        keys: Mapping[str, Item] = item["keys"]
        return keys

    def get(self, client_id: str) -> Client:
        """Return one client.

        Raises:
            Missing: there is none of this id.
        """
        item = self._table.get(f"T#{client_id.rpartition('.')[0]}", f"CLIENT#{client_id}")
        if item is None:
            raise Missing(f"there is no client {client_id}")
        return _client(item)

    def create(  # noqa: PLR0913 - a client has this many limits
        self,
        tenant_id: str,
        *,
        name: str = "",
        actions: Sequence[str] | None = None,
        providers: Sequence[str] | None = None,
        networks: Sequence[str] = (),
        expires: int | None = None,
        test: bool = False,
    ) -> IssuedKey:
        """Make a client of a tenant with a first key.

        Args:
            tenant_id: whose client.
            name: what the operator calls it.
            actions: the actions that it may use; None for all.
            providers: the providers that it may use; None for all of the tenant's.
            networks: the address ranges that it may call from, as CIDR; none for anywhere.
            expires: when its key stops working, in epoch µs.
            test: whether its keys are for test mode (`testmode`).

        Raises:
            Missing: there is no such tenant.
            Full: the tenant has 20 keys already.
        """
        alphabet = string.ascii_lowercase + string.digits
        client_id = f"{tenant_id}." + "".join(secrets.choice(alphabet) for _ in range(_CLIENT_SUFFIX))
        draft = Client(
            id=client_id,
            tenant=tenant_id,
            name=name,
            scope=Scope(
                client=client_id,
                actions=None if actions is None else frozenset(actions),
                providers=None if providers is None else frozenset(providers),
                networks=tuple(networks),
            ),
            created=self._table.clock.now(),
            expires=expires,
            test=test,
        )
        for _ in range(_TRIES):
            stored, now = self._keys(tenant_id), self._table.clock.now()
            key, text = _new_key(tenant_id, test=test)
            client = replace(draft, keys=(key.id,))
            drop = _to_drop(stored, now, client_id)
            added = {key.id: _stored_key(client, key)}
            change = _KeyChange(tenant_id, add=added, drop=drop, keyless=_keyless(stored, drop))
            made = Write(*_client_key(client), put=_client_item(client), condition="attribute_not_exists(pk)")
            if self._apply(stored, change, made):
                return IssuedKey(client, text)
        raise StoreBusy("the keys kept changing")

    def rotate(self, client_id: str, *, overlap: int) -> IssuedKey:
        """Give a client a new key; its old ones stop working after ``overlap`` µs.

        That holds during an earlier rotation's overlap, too: no old key outlives the newest overlap, and none works
        longer than it was to. Without an overlap they are gone with the new key's coming, whatever the clocks say.

        Raises:
            Missing: there is no such client, or it was revoked, or it has expired.
            Full: the tenant has 20 keys already.
        """
        for _ in range(_TRIES):
            client = self.get(client_id)
            stored, now = self._keys(client.tenant), self._table.clock.now()
            if client.revoked:
                raise Missing(f"the client {client_id} was revoked")
            if client.expires is not None and client.expires <= now:
                raise Missing(f"the client {client_id} has expired: make another one")
            key, text = _new_key(client.tenant, test=client.test)
            drop = _to_drop(stored, now, client_id, everything=not overlap)
            old = [key_id for key_id in client.keys if key_id in stored and key_id not in drop]
            renewed = replace(client, keys=(*old, key.id))
            change = _KeyChange(
                client.tenant,
                add={key.id: _stored_key(renewed, key)},
                ends={key_id: min(stored[key_id].get("expires", now + overlap), now + overlap) for key_id in old},
                drop=drop,
                keyless=_keyless(stored, drop) - {client_id},
            )
            if self._apply(stored, change, _client_update(client, renewed.keys, _last_used(stored, client_id))):
                return IssuedKey(renewed, text)
        raise StoreBusy("the client kept changing")

    def revoke(self, client_id: str) -> None:
        """End all keys of a client for ever; the next request with any of them is refused.

        Raises:
            Missing: there is no such client.
        """
        for _ in range(_TRIES):
            client = self.get(client_id)
            if client.revoked:
                return
            stored = self._keys(client.tenant)
            drop = _to_drop(stored, 0, client_id, everything=True)
            change = _KeyChange(client.tenant, drop=drop, keyless=_keyless(stored, drop) | {client_id})
            if self._apply(stored, change, _client_update(client, (), _last_used(stored, client_id), revoked=True)):
                return
        raise StoreBusy("the client kept changing")

    def _apply(self, stored: Mapping[str, Item], change: "_KeyChange", of_client: Write) -> bool:
        """Change a tenant's keys and a client in one transaction; False if either is no longer as it was read."""
        gone = {stored[key_id]["client"] for key_id in change.drop} - {of_client.sk.removeprefix("CLIENT#")}
        uses = [_note_used(change.tenant, name, used) for name in sorted(gone) if (used := _last_used(stored, name))]
        if change.add and len(stored) - len(change.drop) >= MAX_KEYS:
            raise Full(f"the tenant {change.tenant} has {MAX_KEYS} keys already: revoke some")
        try:
            self._table.transact([change.write(), of_client, *uses])
        except TransactionRefused:
            return False
        return True


@dataclass(frozen=True, slots=True)
class _KeyChange:
    """What becomes of a tenant's keys at once: some are added, some get an end (epoch µs), some are gone.

    ``keyless`` are the clients that have no key then: their browser tokens have ended, too, or end with it.
    """

    tenant: str
    add: Mapping[str, Item] = field(default_factory=dict)
    ends: Mapping[str, int] = field(default_factory=dict)
    drop: Sequence[str] = ()
    keyless: frozenset[str] = frozenset()

    def write(self) -> Write:
        """Return the write: on condition that there is room for it, and that what it ends is still there."""
        places = {key_id: f"#keys.#k{n}" for n, key_id in enumerate((*self.add, *self.ends, *self.drop))}
        names = {"#keys": "keys", **{place.removeprefix("#keys."): key_id for key_id, place in places.items()}}
        values: dict[str, Any] = {":most": MAX_KEYS + len(self.drop) - len(self.add)}
        conditions = ["size(#keys) <= :most"]
        conditions += [f"attribute_exists({places[key_id]})" for key_id in (*self.ends, *self.drop)]
        sets = []
        for n, (key_id, stored) in enumerate(self.add.items()):
            sets.append(f"{places[key_id]} = :key{n}")
            values[f":key{n}"] = stored
        for n, (key_id, end) in enumerate(self.ends.items()):
            sets.append(f"{places[key_id]}.#expires = :end{n}")
            names["#expires"], values[f":end{n}"] = "expires", end
        clauses = [f"SET {', '.join(sets)}"] if sets else []
        clauses += [f"REMOVE {', '.join(places[key_id] for key_id in self.drop)}"] if self.drop else []
        if self.keyless:
            clauses.append("DELETE #issuers :keyless")
            names["#issuers"], values[":keyless"] = ISSUERS, self.keyless
        update, condition = " ".join(clauses), " AND ".join(conditions)
        return Write(f"T#{self.tenant}", "TENANT", update=update, condition=condition, names=names, values=values)


def _new_key(tenant_id: str, *, test: bool) -> tuple[ClientKey, str]:
    text = new_client_key(tenant_id, test=test)
    key = parse_client_key(text)
    if key is None:
        raise ValueError(f"{tenant_id} cannot be the name of a tenant")
    return key, text


def _stored_key(client: Client, key: ClientKey) -> Item:
    """Return what the tenant's item keeps of a key: every request reads it there."""
    kept = {"digest": key.digest, "client": client.id, "expires": client.expires, **scope_attributes(client.scope)}
    return {name: value for name, value in kept.items() if value is not None}


def _to_drop(stored: Mapping[str, Item], now: int, client_id: str, *, everything: bool = False) -> tuple[str, ...]:
    """Return which keys go: a client's that have expired (or ``everything`` of it), and others' if room is short."""
    expired = {key_id for key_id, value in stored.items() if value.get("expires", now + 1) <= now}
    own = {key_id for key_id, value in stored.items() if value["client"] == client_id}
    going = own if everything else own & expired
    return tuple(sorted(going | expired if len(stored) - len(going) >= MAX_KEYS else going))


def _keyless(stored: Mapping[str, Item], drop: Collection[str]) -> frozenset[str]:
    """Return the clients whose last keys go."""
    staying = {value["client"] for key_id, value in stored.items() if key_id not in drop}
    return frozenset(stored[key_id]["client"] for key_id in drop) - staying


def _last_used(stored: Mapping[str, Item], client_id: str) -> int | None:
    uses = [value["used"] for value in stored.values() if value["client"] == client_id and "used" in value]
    return max(uses, default=None)


def _as_used(client: Client, stored: Mapping[str, Item], now: int) -> Client:
    """Return a client with the keys that still work, and when it was used last."""
    works = tuple(one for one in client.keys if one in stored and stored[one].get("expires", now + 1) > now)
    uses = [at for at in (client.used, _last_used(stored, client.id)) if at is not None]
    return replace(client, keys=works, used=max(uses, default=None))


def _client_update(client: Client, keys: Sequence[str], used: int | None, *, revoked: bool = False) -> Write:
    """Return the write by which a client has other keys, on condition that nobody changed it since it was read."""
    values: dict[str, Any] = {":known": list(client.keys), ":keys": list(keys), ":revoked": revoked, ":false": False}
    update = "SET #keys = :keys, revoked = :revoked"
    if used is not None:
        update += ", used = :used"
        values[":used"] = used
    return Write(
        *_client_key(client),
        update=update,
        condition="#keys = :known AND revoked = :false",
        names={"#keys": "keys"},
        values=values,
    )


def _note_used(tenant_id: str, client_id: str, used: int) -> Write:
    """Return the write that keeps with a client when a key of it was used last that is about to go."""
    return Write(
        f"T#{tenant_id}",
        f"CLIENT#{client_id}",
        update="SET used = :used",
        condition="attribute_exists(pk)",
        values={":used": used},
    )


def _client_key(client: Client) -> tuple[str, str]:
    return f"T#{client.tenant}", f"CLIENT#{client.id}"


def _client_item(client: Client) -> Item:
    return {
        "id": client.id,
        "tenant": client.tenant,
        "name": client.name,
        **scope_attributes(client.scope),
        "created_at": client.created,
        "expires": client.expires,
        "revoked": client.revoked,
        "keys": list(client.keys),
        "test": client.test or None,
    }


def _client(item: Mapping[str, Any]) -> Client:
    return Client(
        id=item["id"],
        tenant=item["tenant"],
        name=item["name"],
        scope=scope(item, client=item["id"]),
        created=item["created_at"],
        expires=item.get("expires"),
        revoked=item["revoked"],
        keys=tuple(item["keys"]),
        used=item.get("used"),
        test=item.get("test", False),
    )
