"""What the operator sets up: providers and tenants. Used by the command line, never by a Lambda."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from chalicelib.aws import limits
from chalicelib.aws.directory import (
    is_provider,
    provider,
    provider_attributes,
    tenant,
    tenant_attributes,
)
from chalicelib.aws.table import ConditionFailed, Item, Table, TransactionRefused, Write
from chalicelib.errors import PanelgateError, StoreBusy
from chalicelib.model import MAX_PROVIDER_NUMBER, Provider, Tenant

# A tenant, its old origins and its new ones must fit into one transaction, which has room for 100 items.
MAX_ORIGINS = 49
# Neighbours may change what an act rests on between a look at it and the transaction; each time that happens one of
# them is done, and operators are few.
_TRIES = 20


class Exists(PanelgateError):
    """What was to be created is there already."""


class Missing(PanelgateError):
    """What was named does not exist."""


class Full(PanelgateError):
    """There is no room for that many."""


class Registry:
    """The operator's acts on providers and tenants."""

    def __init__(self, table: Table) -> None:
        """Use ``table``."""
        self._table = table

    # -- providers -------------------------------------------------------------------------------------------------

    def providers(self) -> list[Provider]:
        """Return all providers by slug."""
        return [provider(item) for item in self._table.query("PROVIDERS") if is_provider(item)]

    def provider(self, slug: str) -> Provider:
        """Return one provider.

        Raises:
            Missing: there is none of this name.
        """
        return provider(self._provider_item(slug))

    def _provider_item(self, slug: str) -> Item:
        return self._item("PROVIDERS", slug, f"provider {slug}")

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
                Write(f"P#{new.slug}", "PACE", put={**_pace(candidate), **limits.full_bucket(), "inflight": {}}),
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

    def change_provider(self, slug: str, change: Callable[[Provider], Provider]) -> Provider:
        """Change a provider's settings and return it as it is then. A changed limit lends no second burst.

        Args:
            slug: which provider.
            change: makes the changed provider of the stored one; asked again when that was changed meanwhile.

        Raises:
            Missing: there is none of this name.
        """
        for _ in range(_TRIES):
            item, pace = self._provider_item(slug), self._item(f"P#{slug}", "PACE", f"limiter of {slug}")
            changed, now = change(provider(item)), self._table.clock.now()
            writes = [
                _change(item, provider_attributes(changed)),
                Write("PROVIDERS", _number(changed), put=_holder(changed)),
                _change(pace, _pace(changed), now=now),
            ]
            try:
                self._table.transact(writes)
            except TransactionRefused:
                continue
            return changed
        raise StoreBusy("the provider kept changing")

    def set_enabled(self, slug: str, *, enabled: bool) -> Provider:
        """Have a provider called again, or no longer, and return it as it is then.

        Raises:
            Missing: there is none of this name.
        """
        try:
            return provider(self._table.write(_switch("PROVIDERS", slug, "enabled", to=enabled)))
        except ConditionFailed:
            raise Missing(f"there is no provider {slug}") from None

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
        return self._item(f"T#{name}", "TENANT", f"tenant {name}")

    def _item(self, pk: str, sk: str, named: str) -> Item:
        item = self._table.get(pk, sk)
        if item is None:
            raise Missing(f"there is no {named}")
        return item

    def create_tenant(self, new: Tenant) -> None:
        """Store a tenant.

        Raises:
            Exists: the name is taken.
            Full: it has more origins than there is room for.
        """
        _check_origins(new)
        item = {**tenant_attributes(new), **limits.full_bucket(), "keys": {}}
        writes = [
            Write(f"T#{new.id}", "TENANT", put=item, condition="attribute_not_exists(pk)"),
            Write("TENANTS", new.id, put={}),
            *_origins(new),
        ]
        try:
            self._table.transact(writes)
        except TransactionRefused:
            raise Exists(f"there is a tenant {new.id} already") from None

    def change_tenant(self, name: str, change: Callable[[Tenant], Tenant]) -> Tenant:
        """Change a tenant's settings and return it as it is then. A changed limit lends no second burst.

        Args:
            name: which tenant.
            change: makes the changed tenant of the stored one; asked again when that was changed meanwhile.

        Raises:
            Missing: there is none of this name.
            Full: it would have more origins than there is room for.
        """
        for _ in range(_TRIES):
            item = self._tenant_item(name)
            stored, now = tenant(item), self._table.clock.now()
            changed = change(stored)
            _check_origins(changed)
            writes = [
                _change(item, tenant_attributes(changed), now=now),
                *_origins(changed),
                *(Write(f"ORIGIN#{origin}", name) for origin in sorted(stored.origins - changed.origins)),
            ]
            try:
                self._table.transact(writes)
            except TransactionRefused:
                continue
            return changed
        raise StoreBusy("the tenant kept changing")

    def set_active(self, tenant_id: str, *, active: bool) -> Tenant:
        """Resume or suspend a tenant, from its next request on, and return it as it is then.

        Raises:
            Missing: there is none of this name.
        """
        try:
            return tenant(self._table.write(_switch(f"T#{tenant_id}", "TENANT", "active", to=active)))
        except ConditionFailed:
            raise Missing(f"there is no tenant {tenant_id}") from None

    def set_own_key(self, tenant_id: str, slug: str, *, is_used: bool) -> None:
        """Have a tenant's new orders at a provider bought with its own key, or (False) with the operator's again.

        It holds from the tenant's next request on. The key is in the vault before it is used, and stays there after:
        orders remain with the account that bought them, which is remembered for ever.

        Raises:
            Missing: there is no such tenant or provider.
        """
        self.provider(slug)
        own = Write(
            f"T#{tenant_id}",
            "TENANT",
            update=f"{'ADD' if is_used else 'DELETE'} own_keys :slug",
            condition="attribute_exists(pk)",
            values={":slug": {slug}},
        )
        account = Write("PROVIDERS", f"ACCOUNT#{slug}#{tenant_id}", put={"provider": slug, "tenant": tenant_id})
        try:
            self._table.transact([own, account] if is_used else [own])
        except TransactionRefused:
            raise Missing(f"there is no tenant {tenant_id}") from None


def _number(value: Provider) -> str:
    return f"NUMBER#{value.number:03d}"


def _holder(value: Provider) -> Item:
    return {"provider": value.slug, "number": value.number, "url": value.url}


def _pace(value: Provider) -> Item:
    return {**limits.settings(value.interval, value.burst), "concurrency": value.concurrency}


def _check_origins(value: Tenant) -> None:
    if len(value.origins) > MAX_ORIGINS:
        raise Full(f"a tenant has room for {MAX_ORIGINS} origins, and these are {len(value.origins)}")


def _origins(value: Tenant) -> list[Write]:
    return [Write(f"ORIGIN#{origin}", value.id, put={}) for origin in sorted(value.origins)]


def _switch(pk: str, sk: str, name: str, *, to: bool) -> Write:
    """Return the write that turns one setting of an item on or off, whatever becomes of the others meanwhile."""
    return Write(
        pk, sk, update="SET #name = :to", condition="attribute_exists(pk)", names={"#name": name}, values={":to": to}
    )


def _change(item: Item, settings: Mapping[str, Any], *, now: int | None = None) -> Write:
    """Return the write by which an item has other settings, on condition that they are as they were read.

    Args:
        item: as it was read.
        settings: all of them as they are to be; None for one that is not set.
        now: of an item that is a limiter; a changed limit then lends no second burst.
    """
    names = list(settings)
    sets = [f"#{name} = :{name}" for name in names if settings[name] is not None]
    removed = [f"#{name}" for name in names if settings[name] is None]
    conditions = [f"#{name} = :old_{name}" if name in item else f"attribute_not_exists(#{name})" for name in names]
    values = {f":{name}": settings[name] for name in names} | {f":old_{name}": item.get(name) for name in names}
    if now is not None and any(item[name] != settings[name] for name in ("interval", "burst")):
        bucket, condition, times = limits.emptied(item, settings["interval"], settings["burst"], now)
        names, values = [*names, "tat", "gate"], values | times
        sets, conditions = [*sets, bucket], [*conditions, condition]
    return Write(
        item["pk"],
        item["sk"],
        update=f"SET {', '.join(sets)}" + (f" REMOVE {', '.join(removed)}" if removed else ""),
        condition=" AND ".join(conditions),
        names={f"#{name}": name for name in names},
        values=values,
    )
