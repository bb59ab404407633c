"""`panelgate providers`: the panels that the gateway buys from."""

import contextlib
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, replace
from decimal import Decimal
from typing import Any

import click
from botocore.exceptions import BotoCoreError, ClientError

from chalicelib.actions import Balance, GetBalance, ListServices, Services
from chalicelib.aws.rotations import Rotation, Rotations, Step
from chalicelib.aws.vault import GONE
from chalicelib.clock import SECOND, Clock
from chalicelib.errors import PanelgateError
from chalicelib.jobs import sync_catalog
from chalicelib.keys import ProviderKey
from chalicelib.model import Account, Provider
from chalicelib.panels import DIALECTS
from chalicelib.settings import Settings
from chalicelib.upstream import check_url
from cli.acts import Trace, identity
from cli.console import Console, Failure, Group, pass_console
from cli.keys import read_key
from cli.options import CURRENCY, MANY, PACE, QUIET, RATIO, SLUG, stacked
from cli.orders import refuse_unsettled
from cli.proving import SLOT_TIME, Question, prove, told
from cli.rotation import spelled, store
from cli.text import Rows, duration_text, facts, moment, pace_text, plain

HOME_CURRENCY = "USD"
MAX_BATCH = 100

_settings = stacked(
    click.option("--rate", "interval", type=PACE, help="Calls that the provider allows: 1/s, 30/m, unlimited."),
    click.option("--burst", type=click.IntRange(1, 1000), help="Calls that may come at once."),
    click.option("--concurrency", type=MANY, help="Calls that may run at the same time."),
    click.option("--batch", type=click.IntRange(1, MAX_BATCH), help="Ids that one call may ask for."),
    click.option("--currency", type=CURRENCY, help="What the provider counts in; USD unless said."),
    click.option("--fx", type=RATIO, help="USD per unit of that currency."),
    click.option("--quiet", type=QUIET, help="No unknown order is declared not placed sooner."),
    click.option(
        "--exclusive-key/--no-exclusive-key", default=None, help="Nobody else orders with this key: yes or no."
    ),
)
_dialect = click.Choice(sorted(DIALECTS))


@dataclass(frozen=True, slots=True)
class Unpaced:
    """The pace of a provider that nobody else can call yet, for its first call."""

    clock: Clock

    def reserve(self, provider: Provider, *, holder: str, latest: int) -> int:
        """Return now."""
        del provider, holder, latest
        return self.clock.now()

    def release(self, provider: Provider, *, holder: str) -> None:
        """Do nothing: nothing is counted."""


@click.group("providers", cls=Group)
def providers_command() -> None:
    """The panels that this gateway buys from."""


@providers_command.command()
@click.argument("provider", metavar="ID", type=SLUG)
@click.option("--dialect", type=_dialect, required=True, help="How the panel speaks.")
@click.option("--url", required=True, help="Where its API is.")
@_settings
@pass_console
def add(console: Console, /, provider: str, dialect: str, url: str, **given: object) -> None:
    """Add a provider, with its key from standard input, and sync its catalog."""
    _check_url(console, url)
    plan = _changed(new_provider(console.parts.settings, provider, dialect, url), given)
    if any(known.slug == provider for known in console.registry.providers()):
        raise Failure(f"There is a provider {provider} already. `providers set` changes it, `keys rotate` its key.")
    key = read_key(console, provider)
    balance = _prove_first(console, plan, key, is_sure_of_currency=given["currency"] is not None)
    added = _store(console, plan, key, balance)
    console.note(number=added.number)
    _tell_own_keys(console, provider)
    count = _sync(console, added)
    console.emit(
        {**document(added), "balance": plain(balance.amount), "services": count},
        f"{provider} is provider number {added.number}, with {count} services.",
    )


def new_provider(settings: Settings, slug: str, dialect: str, url: str) -> Provider:
    """Return a provider with the defaults of its dialect and of the stage; it has no number yet."""
    capabilities = DIALECTS[dialect].capabilities
    return Provider(
        slug=slug,
        number=0,
        dialect=dialect,
        url=url,
        interval=capabilities.interval,
        burst=capabilities.burst,
        quiet=settings.quiet,
    )


def _check_url(console: Console, url: str) -> None:
    try:
        check_url(url, allow_loopback=console.parts.settings.local)
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint="--url") from None


def _changed(provider: Provider, given: Mapping[str, Any]) -> Provider:
    """Return a provider with the options that were given."""
    changes = {name: value for name, value in given.items() if value is not None}
    changes |= _money(provider, changes)
    if "concurrency" in changes:
        changes["concurrency"] = changes["concurrency"] or None
    return replace(provider, **changes)


def _money(provider: Provider, changes: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the currency and its rate, which belong together."""
    currency, fx = changes.get("currency", provider.currency), changes.get("fx")
    if currency == HOME_CURRENCY:
        if fx not in (None, 1):
            raise click.UsageError("--fx is for other currencies than USD: add --currency.")
        return {"currency": currency, "fx": Decimal(1)} if currency != provider.currency else {}
    if fx is None and currency != provider.currency:
        raise click.UsageError(f"--fx is needed with --currency {currency}: how many USD is one {currency} worth?")
    return {"currency": currency, "fx": fx or provider.fx}


def _prove_first(console: Console, plan: Provider, key: str, *, is_sure_of_currency: bool) -> Balance:
    """Prove a key before anything is stored, then wait until the provider may be called again."""
    console.progress(f"Proving the key with {plan.slug} …")
    try:
        balance = prove(console, plan, ProviderKey(key, ""), pace=Unpaced(console.parts.clock))
    except Failure as failure:
        raise Failure(f"{failure.message} Nothing was stored.") from None
    stated = (balance.currency or "").upper()
    if stated.isalpha() and stated != plan.currency and not is_sure_of_currency:
        raise Failure(f"{plan.slug} counts in {stated}: say --currency {stated} and --fx. Nothing was stored.")
    console.parts.clock.sleep(min(plan.interval, SLOT_TIME) / SECOND)
    return balance


def _store(console: Console, plan: Provider, key: str, balance: Balance) -> Provider:
    """Store a provider and its proved key, both or neither."""
    added = console.registry.add_provider(plan)
    first = Rotation(account=added.account, version=str(uuid.uuid4()), step=Step.DONE)
    try:
        store(console, added, key, first.version)
        console.parts.vault.promote(added.account, first.version)
        by = identity(console.aws)["arn"]
        Rotations(console.parts.table).begin(first, by=by, proof=spelled(told(balance)))
    except BaseException:
        console.registry.remove_provider(added.slug)
        console.progress(f"The key of {added.slug} could not be stored, so the provider was not added.")
        with contextlib.suppress(ClientError, BotoCoreError):  # it may never have been stored; what failed is told
            console.parts.vault.forget(added.account)
        raise
    return added


def _tell_own_keys(console: Console, provider: str) -> None:
    """Say whose own keys went with the provider when it was removed: their orders are not bought with another one."""
    for tenant in console.registry.tenants():
        if provider in tenant.own_keys:
            console.progress(
                f"{tenant.id} orders at {provider} with a key of its own, which was removed with it. Give it again"
                f" (`keys rotate {provider} --tenant {tenant.id}`), or order with yours (`keys withdraw`)."
            )


def _sync(console: Console, provider: Provider) -> int:
    console.progress(f"Fetching the services of {provider.slug} …")
    try:
        report = sync_catalog(console.parts, provider)
    except PanelgateError as error:
        raise Failure(
            f"{provider.slug} was added and its key is good, but its services could not be fetched ({error})."
            f" Try `panelgate catalog sync {provider.slug}`."
        ) from None
    return report.total


@providers_command.command("list", trace=Trace.NONE)
@pass_console
def list_all(console: Console) -> None:
    """List all providers."""
    found = sorted(console.registry.providers(), key=lambda provider: provider.number)
    rows: list[tuple[object, ...]] = [
        (one.number, one.slug, one.dialect, pace_text(one.interval), one.currency, one.enabled, one.url)
        for one in found
    ]
    console.emit(
        {"providers": [document(provider) for provider in found]},
        str(Rows(("no", "provider", "dialect", "rate", "currency", "enabled", "url"), rows)),
    )


@providers_command.command(trace=Trace.NONE)
@click.argument("provider", metavar="ID", type=SLUG)
@pass_console
def show(console: Console, provider: str) -> None:
    """Print one provider's settings."""
    shown = document(console.registry.provider(provider))
    shown["synced"] = moment(console.parts.catalog.synced(provider))
    console.emit(shown, facts(shown))


@providers_command.command("set")
@click.argument("provider", metavar="ID", type=SLUG)
@click.option("--dialect", type=_dialect, help="How the panel speaks.")
@click.option("--url", help="Where its API is.")
@_settings
@pass_console
def change(console: Console, /, provider: str, **given: object) -> None:
    """Change settings of a provider."""
    if all(value is None for value in given.values()):
        raise click.UsageError("Say what to change, for example --rate 2/s.")
    if isinstance(given["url"], str):
        _check_url(console, given["url"])
    _emit(console, console.registry.change_provider(provider, lambda stored: _changed(stored, given)))


def _emit(console: Console, provider: Provider) -> None:
    shown = document(provider)
    console.emit(shown, f"{facts(shown)}\n\nIn effect within 30 seconds.")


@providers_command.command()
@click.argument("provider", metavar="ID", type=SLUG)
@pass_console
def disable(console: Console, provider: str) -> None:
    """Stop calling a provider; its key, catalog and orders stay."""
    _emit(console, console.registry.set_enabled(provider, enabled=False))


@providers_command.command()
@click.argument("provider", metavar="ID", type=SLUG)
@pass_console
def enable(console: Console, provider: str) -> None:
    """Call a provider again."""
    _emit(console, console.registry.set_enabled(provider, enabled=True))


@providers_command.command(trace=Trace.NONE)
@click.argument("provider", metavar="ID", type=SLUG)
@pass_console
def check(console: Console, provider: str) -> None:
    """Ask a provider for its balance and services, now."""
    caller, found = console.parts.caller, console.registry.provider(provider)
    money, catalog = Question(caller, found, GetBalance()), Question(caller, found, ListServices())
    balance, services = money.ask(), catalog.ask()
    if not isinstance(balance, Balance) or not isinstance(services, Services):
        raise Failure(f"{provider} does not answer what was asked.")
    shown = {
        "provider": provider,
        "balance": plain(balance.amount),
        "currency": balance.currency,
        "services": len(services.services),
        "skipped": len(services.skipped),
        "latency_ms": {"balance": money.milliseconds, "services": catalog.milliseconds},
    }
    console.emit(
        shown,
        f"balance   {balance.amount:f} {balance.currency or ''} ({money.milliseconds} ms)\n"
        f"services  {shown['services']}, and {shown['skipped']} that cannot be read ({catalog.milliseconds} ms)",
    )


@providers_command.command()
@click.argument("provider", metavar="ID", type=SLUG)
@click.option("--yes", is_flag=True, help="Do not ask.")
@pass_console
def remove(console: Console, provider: str, *, yes: bool) -> None:
    """Remove a provider; Secrets Manager keeps its key for 30 more days."""
    console.registry.provider(provider)
    tied = [tenant.id for tenant in console.registry.tenants() if provider in (tenant.providers or ())]
    if tied:
        raise Failure(f"{provider} is named by {', '.join(tied)}. Change that first: `tenants set … --providers …`.")
    accounts = _accounts(console, provider)
    refuse_unsettled(console, provider, accounts)
    if not yes:
        console.confirm(f"Remove {provider}? Its open orders can then no longer be followed.")
    rotations, by = Rotations(console.parts.table), identity(console.aws)["arn"]
    for account in accounts:
        rotations.abandon(account, by=by, reason="the provider was removed")
    console.registry.remove_provider(provider)
    for account in accounts:
        _forget_key(console, account)
    console.emit({"provider": provider, "removed": True}, f"{provider} is removed.")


def _accounts(console: Console, provider: str) -> list[Account]:
    """Return the accounts at a provider that there ever were, and those of tenants whose first key was never used."""
    known = [one for one in console.parts.directory.every_account() if one.provider == provider]
    own = (Account(provider, tenant.id) for tenant in console.registry.tenants())
    history = Rotations(console.parts.table).history
    return list(dict.fromkeys([*known, *(one for one in own if any(history(one)))]))


def _forget_key(console: Console, account: Account) -> None:
    try:
        console.parts.vault.forget(account)
    except ClientError as error:
        if error.response["Error"]["Code"] not in GONE:
            raise


def document(provider: Provider) -> dict[str, Any]:
    """Return what there is to know about a provider, spelled as the options are."""
    return {
        "provider": provider.slug,
        "number": provider.number,
        "dialect": provider.dialect,
        "url": provider.url,
        "rate": pace_text(provider.interval),
        "burst": provider.burst,
        "concurrency": provider.concurrency,
        "batch": provider.batch,
        "currency": provider.currency,
        "fx": plain(provider.fx),
        "quiet": duration_text(provider.quiet),
        "exclusive_key": provider.exclusive_key,
        "enabled": provider.enabled,
    }
