"""Who may call: one conditional update authenticates a client key, takes from the tenant's limit and returns both."""

import hmac
from collections.abc import Mapping
from dataclasses import replace
from decimal import Decimal
from typing import Any

from chalicelib.aws import limits
from chalicelib.aws.table import ConditionFailed, Item, Table, Write
from chalicelib.errors import StoreBusy
from chalicelib.keys import ClientKey
from chalicelib.model import Account, Funding, Ids, Provider, Scope, Tenant, Token
from chalicelib.ports import Admission, Admitted, Stranger, Suspended, Throttled

# How long a container uses the providers' configuration before it looks again, in µs, and what it was told of who lists
# a web origin. A disabled provider is used no longer than this.
CONFIGURATION_AGE = 30_000_000
# The attribute of a tenant's item that names the clients which have asked for browser tokens and still have a key.
ISSUERS = "issuers"
# A host name has at most 253 characters; DynamoDB refuses keys of more than 2048 bytes.
_LONGEST_ORIGIN = 300
# Neighbours may turn the limiter's window between two looks; four turns in one request do not happen.
_TRIES = 4
# Containers remember this many tenants' limiters, only to guess which update applies, and this many origins.
_REMEMBERED = 1_000


class DynamoDirectory:
    """Tenants, client keys and providers in the table; see ``ports.Directory``."""

    def __init__(self, table: Table) -> None:
        """Use ``table``; what is remembered here only saves round trips and decides nothing."""
        self._table = table
        self._full_at: dict[str, int] = {}
        self._origins: dict[str, tuple[bool, int]] = {}
        self._providers: Mapping[str, Provider] = {}
        self._providers_read = -CONFIGURATION_AGE

    def admit(self, key: ClientKey | Token, *, now: int) -> Admission:
        """Authenticate a client key, or a token's client, and take one request from the tenant's limit."""
        if isinstance(key, Token) and key.expires <= now:
            # Asked for like any other, so that nobody is told by the time that it takes: no client has this name.
            key = replace(key, scope=replace(key.scope, client=""))
        full = self._full_at.get(key.tenant, 0) < now
        for _ in range(_TRIES):
            try:
                item = self._table.write(_admission(key, now, full=full))
            except ConditionFailed as failure:
                denied = _denied(failure.old, key, now)
                if denied is not None:
                    return denied
                full = failure.old is not None and failure.old["tat"] < now
                continue
            if len(self._full_at) >= _REMEMBERED:
                self._full_at.clear()
            self._full_at[key.tenant] = item["tat"]
            return Admitted(tenant(item), _scope(item, key), limits.quota(item, now))
        raise StoreBusy("the limiter's window kept turning")

    def providers(self) -> Mapping[str, Provider]:
        """Return all providers by slug, at most 30 s old."""
        now = self._table.clock.now()
        if not 0 <= now - self._providers_read < CONFIGURATION_AGE:
            items = self._table.query("PROVIDERS")
            self._providers = {item["sk"]: provider(item) for item in items if is_provider(item)}
            self._providers_read = now
        return self._providers

    def every_account(self) -> list[Account]:
        """Return all accounts that there ever were, the operator's first: removed ones may have unsettled orders."""
        holders = [item for item in self._table.query("PROVIDERS") if not is_provider(item)]
        accounts = [Account(item["provider"], item.get("tenant")) for item in holders]
        return sorted(accounts, key=lambda account: (account.tenant is not None, account.provider))

    def origin_listed(self, origin: str, *, fresh: bool = False) -> bool:
        """Say whether an active tenant lists this web origin; unless ``fresh``, the answer may be up to 30 s old."""
        if len(origin) > _LONGEST_ORIGIN or not origin.isascii():
            return False
        now = self._table.clock.now()
        listed, at = self._origins.get(origin, (False, now - CONFIGURATION_AGE))
        if not fresh and 0 <= now - at < CONFIGURATION_AGE:
            return listed
        listed = self._lists(origin)
        if len(self._origins) >= _REMEMBERED:
            self._origins.clear()
        self._origins[origin] = listed, now
        return listed

    def _lists(self, origin: str) -> bool:
        for item in self._table.query(f"ORIGIN#{origin}"):
            owner = self._table.get(f"T#{item['sk']}", "TENANT")
            if owner and owner["active"] and origin in owner.get("origins", ()):
                return True
        return False


def is_provider(item: Mapping[str, Any]) -> bool:
    """Say whether an item among the providers is one: the others, with a `#`, hold numbers and tenants' accounts."""
    return "#" not in item["sk"]


def _admission(key: ClientKey | Token, now: int, *, full: bool) -> Write:
    good, names, values = _good_client(key) if isinstance(key, Token) else _good_key(key)
    values |= {":true": True, ":now": now}
    update = limits.RESTART if full else limits.ADVANCE
    if isinstance(key, ClientKey):
        # The item is written anyway: to know when a key was used last costs no write of its own.
        update += ", #keys.#id.#used = :now"
        names["#used"] = "used"
    return Write(
        f"T#{key.tenant}",
        "TENANT",
        update=update,
        condition=f"{good} AND #active = :true AND {limits.FULL if full else limits.FILLING}",
        names={**names, "#active": "active", **limits.names(full=full)},
        values=values if full else {**values, ":latest": now},
    )


def _good_key(key: ClientKey) -> tuple[str, dict[str, str], Item]:
    """Return the condition, its names and its values under which a client key is good now."""
    condition = (
        "#keys.#id.#digest = :digest AND (attribute_not_exists(#keys.#id.#expires) OR #keys.#id.#expires > :now)"
    )
    return (
        condition,
        {"#keys": "keys", "#id": key.id, "#digest": "digest", "#expires": "expires"},
        {":digest": key.digest},
    )


def _good_client(token: Token) -> tuple[str, dict[str, str], Item]:
    """Return the condition, its names and its values under which a token's client was not revoked."""
    return "contains(#issuers, :client)", {"#issuers": ISSUERS}, {":client": token.scope.client}


def _scope(item: Item, key: ClientKey | Token) -> Scope:
    if isinstance(key, Token):
        return key.scope
    stored = item["keys"][key.id]
    client = stored["client"]
    return replace(scope(stored, client=client), key=key.id, issuer=_issues(item, client))


def _denied(item: Item | None, key: ClientKey | Token, now: int) -> Admission | None:
    """Say why an admission failed, or None when only the guess about the window was wrong."""
    if item is None or not (_issues(item, key.scope.client) if isinstance(key, Token) else _has_key(item, key, now)):
        return Stranger()
    if not item["active"]:
        return Suspended(tenant(item), limits.quota(item, now))
    if item["tat"] >= now and item["gate"] > now:
        return Throttled(tenant(item), limits.quota(item, now), item["gate"])
    return None


def _has_key(item: Item, key: ClientKey, now: int) -> bool:
    stored = item["keys"].get(key.id)
    if stored is None or not hmac.compare_digest(stored["digest"], key.digest):
        return False
    return bool(stored.get("expires", now + 1) > now)


def _issues(item: Item, client: str) -> bool:
    return client in item.get(ISSUERS, ())


def tenant(item: Mapping[str, Any]) -> Tenant:
    """Return the tenant that an item describes."""
    return Tenant(
        id=item["id"],
        active=item["active"],
        funding=Funding(item["funding"]),
        ids=Ids(item["ids"]),
        interval=item["interval"],
        burst=item["burst"],
        markup=Decimal(item["markup"]),
        providers=_optional_set(item, "providers"),
        services=_optional_set(item, "services"),
        origins=frozenset(item.get("origins", ())),
        require_idempotency=item["require_idempotency"],
        dedupe=item["dedupe"],
        daily_spend=item.get("daily_spend"),
        refuse_duplicate_link=item.get("refuse_duplicate_link", False),
        own_keys=frozenset(item.get("own_keys", ())),
    )


def tenant_attributes(value: Tenant) -> Item:
    """Return the attributes that describe a tenant, without its keys and its limiter's times."""
    return {
        "id": value.id,
        "active": value.active,
        "funding": value.funding.value,
        "ids": value.ids.value,
        **limits.settings(value.interval, value.burst),
        "markup": str(value.markup),
        "providers": None if value.providers is None else sorted(value.providers),
        "services": None if value.services is None else sorted(value.services),
        "origins": sorted(value.origins),
        "require_idempotency": value.require_idempotency,
        "dedupe": value.dedupe,
        # The item is written on every request: what is not set takes no room.
        "daily_spend": value.daily_spend,
        "refuse_duplicate_link": value.refuse_duplicate_link or None,
        "own_keys": value.own_keys or None,
    }


def scope(item: Mapping[str, Any], *, client: str) -> Scope:
    """Return the scope that an item describes, a key's or a client's."""
    return Scope(
        client=client,
        actions=_optional_set(item, "actions"),
        providers=_optional_set(item, "providers"),
        networks=tuple(item.get("networks", ())),
        expires=item.get("expires"),
    )


def scope_attributes(value: Scope) -> Item:
    """Return the attributes that describe a scope, without its client; None where there is no restriction."""
    return {
        "actions": None if value.actions is None else sorted(value.actions),
        "providers": None if value.providers is None else sorted(value.providers),
        "networks": list(value.networks) or None,
    }


def provider(item: Mapping[str, Any]) -> Provider:
    """Return the provider that an item describes."""
    return Provider(
        slug=item["sk"],
        number=item["number"],
        dialect=item["dialect"],
        url=item["url"],
        interval=item["interval"],
        burst=item["burst"],
        concurrency=item.get("concurrency"),
        batch=item["batch"],
        currency=item["currency"],
        fx=Decimal(item["fx"]),
        quiet=item["quiet"],
        exclusive_key=item["exclusive_key"],
        enabled=item["enabled"],
    )


def provider_attributes(value: Provider) -> Item:
    """Return the attributes that describe a provider."""
    return {
        "number": value.number,
        "dialect": value.dialect,
        "url": value.url,
        "interval": value.interval,
        "burst": value.burst,
        "concurrency": value.concurrency,
        "batch": value.batch,
        "currency": value.currency,
        "fx": str(value.fx),
        "quiet": value.quiet,
        "exclusive_key": value.exclusive_key,
        "enabled": value.enabled,
    }


def _optional_set(item: Mapping[str, Any], name: str) -> frozenset[Any] | None:
    return frozenset(item[name]) if name in item else None
