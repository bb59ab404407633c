"""What the operator sets up: providers, tenants and their clients. Used by the command line, never by a Lambda."""

import secrets
import string
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from chalicelib.aws import limits
from chalicelib.aws.directory import (
    provider,
    provider_attributes,
    scope,
    scope_attributes,
    tenant,
    tenant_attributes,
)
from chalicelib.aws.table import ConditionFailed, Item, Table, TransactionRefused, Write
from chalicelib.errors import PanelgateError
from chalicelib.keys import ClientKey, new_client_key, parse_client_key
from chalicelib.model import MAX_PROVIDER_NUMBER, Provider, Scope, Tenant

# The tenant's item, which holds them, is written on every request, and DynamoDB charges by the kilobyte.
MAX_KEYS = 20
_CLIENT_SUFFIX = 6


class Exists(PanelgateError):
    """What was to be created is there already."""


class Missing(PanelgateError):
    """What was named does not exist."""


class Full(PanelgateError):
    """There is no room for one more."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Client:
    """A program of a tenant. ``expires`` in epoch µs; ``keys`` are the ids of its keys, never the keys."""

    id: str
    tenant: str
    name: str
    scope: Scope
    created: int
    expires: int | None = None
    revoked: bool = False
    keys: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class IssuedKey:
    """A client and its new key, which is stored nowhere and shown once."""

    client: Client
    key: str


class Registry:
    """The operator's acts on the table."""

    def __init__(self, table: Table) -> None:
        """Use ``table``."""
        self._table = table

    # -- providers -------------------------------------------------------------------------------------------------

    def providers(self) -> list[Provider]:
        """Return all providers by slug."""
        return [provider(item) for item in self._table.query("PROVIDERS") if not item["sk"].startswith("NUMBER#")]

    def provider(self, slug: str) -> Provider:
        """Return one provider.

        Raises:
            Missing: there is none of this name.
        """
        item = self._table.get("PROVIDERS", slug)
        if item is None:
            raise Missing(f"there is no provider {slug}")
        return provider(item)

    def add_provider(self, new: Provider) -> Provider:
        """Store a provider under the next free number; numbers are never given again, for public ids hold them.

        A provider that was removed gets its old number back, with its catalog and its orders; a name never comes to
        stand for another panel, whose order ids would meet the old one's.

        Raises:
            Exists: the name is taken, or was another panel's.
            Full: all 999 numbers are taken.
        """
        for _ in range(MAX_PROVIDER_NUMBER):
            candidate = replace(new, number=self._free_number(new))
            writes = [
                Write("PROVIDERS", new.slug, put=provider_attributes(candidate), condition="attribute_not_exists(pk)"),
                Write(
                    "PROVIDERS",
                    _number(candidate),
                    put=_holder(candidate),
                    condition="attribute_not_exists(pk) OR provider = :slug",
                    values={":slug": new.slug},
                ),
                Write(f"P#{new.slug}", "PACE", put=_pace(candidate, limits.full_bucket())),
            ]
            try:
                self._table.transact(writes)
            except TransactionRefused as refused:
                if 0 in refused.failed:
                    raise Exists(f"there is a provider {new.slug} already") from None
                continue
            return candidate
        raise Full(f"all {MAX_PROVIDER_NUMBER} provider numbers are taken")

    def _free_number(self, new: Provider) -> int:
        numbers = {item["provider"]: item for item in self._table.query("PROVIDERS", "NUMBER#")}
        mine = numbers.get(new.slug)
        if mine is None:
            number = 1 + max((item["number"] for item in numbers.values()), default=0)
            if number > MAX_PROVIDER_NUMBER:
                raise Full(f"all {MAX_PROVIDER_NUMBER} provider numbers are taken")
            return number
        if mine["url"] != new.url:
            raise Exists(f"{new.slug} was the name of the panel at {mine['url']}: choose another name")
        return int(mine["number"])

    def set_provider(self, changed: Provider) -> None:
        """Store a provider's changed settings. A changed limit starts with nothing to spend.

        Raises:
            Missing: there is none of this name.
        """
        old = self.provider(changed.slug)
        self._table.write(Write("PROVIDERS", changed.slug, put=provider_attributes(changed)))
        self._table.write(Write("PROVIDERS", _number(changed), put=_holder(changed)))
        if (old.interval, old.burst, old.concurrency) != (changed.interval, changed.burst, changed.concurrency):
            bucket = limits.empty_bucket(changed.interval, changed.burst, self._table.clock.now())
            self._table.write(Write(f"P#{changed.slug}", "PACE", put=_pace(changed, bucket)))

    def remove_provider(self, slug: str) -> None:
        """Delete a provider's configuration; its number, catalog and orders stay.

        Raises:
            Missing: there is none of this name.
        """
        self.provider(slug)
        self._table.write(Write("PROVIDERS", slug))

    # -- tenants ---------------------------------------------------------------------------------------------------

    def tenants(self) -> list[Tenant]:
        """Return all tenants by id."""
        return [self.tenant(item["sk"]) for item in self._table.query("TENANTS")]

    def tenant(self, name: str) -> Tenant:
        """Return one tenant.

        Raises:
            Missing: there is none of this name.
        """
        return tenant(self._tenant_item(name))

    def _tenant_item(self, name: str) -> Item:
        item = self._table.get(f"T#{name}", "TENANT")
        if item is None:
            raise Missing(f"there is no tenant {name}")
        return item

    def create_tenant(self, new: Tenant) -> None:
        """Store a tenant.

        Raises:
            Exists: the name is taken.
        """
        item = {**tenant_attributes(new), **limits.full_bucket(), "keys": {}}
        writes = [
            Write(f"T#{new.id}", "TENANT", put=item, condition="attribute_not_exists(pk)"),
            Write("TENANTS", new.id, put={}),
            *(Write(f"ORIGIN#{origin}", new.id, put={}) for origin in sorted(new.origins)),
        ]
        try:
            self._table.transact(writes)
        except TransactionRefused:
            raise Exists(f"there is a tenant {new.id} already") from None

    def set_tenant(self, changed: Tenant) -> None:
        """Store a tenant's changed settings. A changed limit starts with nothing to spend.

        Raises:
            Missing: there is none of this name.
        """
        old = self.tenant(changed.id)
        attributes = tenant_attributes(changed)
        if (old.interval, old.burst) != (changed.interval, changed.burst):
            attributes |= limits.empty_bucket(changed.interval, changed.burst, self._table.clock.now())
        given = {name: value for name, value in attributes.items() if value is not None}
        absent = [name for name, value in attributes.items() if value is None]
        update = "SET " + ", ".join(f"#{name} = :{name}" for name in given)
        update += (" REMOVE " + ", ".join(f"#{name}" for name in absent)) if absent else ""
        writes = [
            Write(
                f"T#{changed.id}",
                "TENANT",
                update=update,
                condition="attribute_exists(pk)",
                names={f"#{name}": name for name in attributes},
                values={f":{name}": value for name, value in given.items()},
            ),
            *(Write(f"ORIGIN#{origin}", changed.id, put={}) for origin in sorted(changed.origins - old.origins)),
            *(Write(f"ORIGIN#{origin}", changed.id) for origin in sorted(old.origins - changed.origins)),
        ]
        self._table.transact(writes)

    # -- clients ---------------------------------------------------------------------------------------------------

    def clients(self, tenant_id: str) -> list[Client]:
        """Return a tenant's clients, revoked ones too."""
        self.tenant(tenant_id)
        return [_client(item) for item in self._table.query(f"T#{tenant_id}", "CLIENT#")]

    def client(self, client_id: str) -> Client:
        """Return one client; its id begins with its tenant's.

        Raises:
            Missing: there is none of this id.
        """
        item = self._table.get(f"T#{client_id.rpartition('.')[0]}", f"CLIENT#{client_id}")
        if item is None:
            raise Missing(f"there is no client {client_id}")
        return _client(item)

    def create_client(  # noqa: PLR0913 - a client has this many limits
        self,
        tenant_id: str,
        *,
        name: str = "",
        actions: Sequence[str] | None = None,
        providers: Sequence[str] | None = None,
        networks: Sequence[str] = (),
        expires: int | None = None,
    ) -> IssuedKey:
        """Make a client of a tenant with a first key.

        Args:
            tenant_id: whose client.
            name: what the operator calls it.
            actions: the actions that it may use; None for all.
            providers: the providers that it may use; None for all of the tenant's.
            networks: the address ranges that it may call from, as CIDR; none for anywhere.
            expires: when its key stops working, in epoch µs.

        Raises:
            Missing: there is no such tenant.
            Full: the tenant has 20 keys already.
        """
        self.tenant(tenant_id)
        alphabet = string.ascii_lowercase + string.digits
        client_id = f"{tenant_id}." + "".join(secrets.choice(alphabet) for _ in range(_CLIENT_SUFFIX))
        key, text = _new_key(tenant_id)
        client = Client(
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
            keys=(key.id,),
        )
        writes = [_add_key(client, key), Write(*_client_key(client), put=_client_item(client))]
        self._grant(tenant_id, writes)
        return IssuedKey(client, text)

    def rotate_client(self, client_id: str, *, overlap: int) -> IssuedKey:
        """Give a client a new key; its old ones stop working after ``overlap`` µs.

        Raises:
            Missing: there is no such client, or it was revoked.
            Full: the tenant has 20 keys already.
        """
        client = self.client(client_id)
        if client.revoked:
            raise Missing(f"the client {client_id} was revoked")
        now = self._table.clock.now()
        self._drop_expired(client.tenant, now)
        stored = self._tenant_item(client.tenant)["keys"]
        old = [key_id for key_id in client.keys if key_id in stored]
        key, text = _new_key(client.tenant)
        renewed = replace(client, keys=(*old, key.id))
        ends = {key_id: min(stored[key_id].get("expires", now + overlap), now + overlap) for key_id in old}
        writes = [_add_key(renewed, key, ends=ends), Write(*_client_key(client), put=_client_item(renewed))]
        self._grant(client.tenant, writes)
        return IssuedKey(renewed, text)

    def revoke_client(self, client_id: str) -> None:
        """End all keys of a client; the next request with any of them is refused.

        Raises:
            Missing: there is no such client.
        """
        client = self.client(client_id)
        stored = self._tenant_item(client.tenant)["keys"]
        mine = [key_id for key_id, value in stored.items() if value["client"] == client_id]
        if mine:
            self._remove_keys(client.tenant, mine)
        self._table.write(Write(*_client_key(client), put=_client_item(replace(client, revoked=True, keys=()))))

    def _grant(self, tenant_id: str, writes: Sequence[Write]) -> None:
        try:
            self._table.transact(writes)
        except TransactionRefused as refused:
            if refused.failed.get(0) is None:
                raise Missing(f"there is no tenant {tenant_id}") from None
            raise Full(f"the tenant {tenant_id} has {MAX_KEYS} keys already: revoke some") from None

    def _drop_expired(self, tenant_id: str, now: int) -> None:
        keys = self._tenant_item(tenant_id)["keys"]
        expired = [key_id for key_id, value in keys.items() if value.get("expires", now + 1) <= now]
        if expired:
            self._remove_keys(tenant_id, expired)

    def _remove_keys(self, tenant_id: str, key_ids: Sequence[str]) -> None:
        names = {"#keys": "keys", **{f"#k{n}": key_id for n, key_id in enumerate(key_ids)}}
        update = "REMOVE " + ", ".join(f"#keys.#k{n}" for n in range(len(key_ids)))
        try:
            self._table.write(
                Write(f"T#{tenant_id}", "TENANT", update=update, condition="attribute_exists(pk)", names=names)
            )
        except ConditionFailed:
            raise Missing(f"there is no tenant {tenant_id}") from None


def _number(value: Provider) -> str:
    return f"NUMBER#{value.number:03d}"


def _holder(value: Provider) -> Item:
    return {"provider": value.slug, "number": value.number, "url": value.url}


def _pace(value: Provider, bucket: Mapping[str, int]) -> Item:
    settings = limits.settings(value.interval, value.burst)
    return {**settings, **bucket, "concurrency": value.concurrency, "inflight": {}}


def _new_key(tenant_id: str) -> tuple[ClientKey, str]:
    text = new_client_key(tenant_id)
    key = parse_client_key(text)
    if key is None:
        raise ValueError(f"{tenant_id} cannot be the name of a tenant")
    return key, text


def _add_key(client: Client, key: ClientKey, *, ends: Mapping[str, int] | None = None) -> Write:
    """Return the write that adds a key to the tenant's item and lets older ones end."""
    stored: dict[str, Any] = {"digest": key.digest, "client": client.id}
    optional = {"expires": client.expires, **scope_attributes(client.scope)}
    stored |= {name: value for name, value in optional.items() if value is not None}
    names = {"#keys": "keys", "#new": key.id, "#expires": "expires"}
    values: dict[str, Any] = {":stored": stored, ":most": MAX_KEYS}
    update = "SET #keys.#new = :stored"
    for n, (key_id, end) in enumerate((ends or {}).items()):
        update += f", #keys.#k{n}.#expires = :end{n}"
        names[f"#k{n}"], values[f":end{n}"] = key_id, end
    if not ends:
        del names["#expires"]
    return Write(
        f"T#{client.tenant}",
        "TENANT",
        update=update,
        condition="attribute_exists(pk) AND size(#keys) < :most",
        names=names,
        values=values,
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
    )
