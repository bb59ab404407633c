"""`panelgate keys`: the keys at providers; they come from standard input, are proved, and are never printed."""

from typing import Any

import click

from chalicelib.aws.rotations import Rotation, Rotations
from chalicelib.keys import check_provider_key
from chalicelib.model import Provider
from cli.acts import Trace
from cli.console import Console, Failure, Group, pass_console
from cli.options import SLUG, TOKEN, WATCH
from cli.rotation import Rotating
from cli.text import Rows, cell, moment

_tenant = click.option("--tenant", type=SLUG, help="The own key of this tenant, instead of yours.")
_yes = click.option("--yes", is_flag=True, help="Do not ask before leaving an account that has open orders.")


def read_key(console: Console, provider: str) -> str:
    """Read a provider key from standard input or a hidden prompt."""
    try:
        return check_provider_key(console.secret(f"API key at {provider}"))
    except ValueError as error:
        raise Failure(f"This is no key: {error}.") from None


@click.group("keys", cls=Group)
def keys_command() -> None:
    """Your keys at the providers, and the own keys of tenants."""


@keys_command.command()
@click.argument("provider", type=SLUG)
@_tenant
@click.option("--token", type=TOKEN, help="Names this rotation: run again, it is the same one.")
@click.option("--watch", type=WATCH, default="60s", help="How long the new key is watched in use.")
@click.option("--other-account", is_flag=True, help="The new key opens another account at the provider.")
@_yes
@pass_console
def rotate(  # noqa: PLR0913 - its options
    console: Console,
    provider: str,
    tenant: str | None,
    token: str | None,
    watch: int,
    *,
    other_account: bool,
    yes: bool,
) -> None:
    """Replace the key at a provider by one from standard input, once it has proved itself.

    Whatever breaks it off, run it again with the same key: it goes on where it was.
    """
    work = Rotating(console, _called(console, provider, tenant), watch, is_sure=yes)
    key = read_key(console, provider)
    rotation = work.begin(key, token=token, other_account=other_account)
    console.note(version=rotation.version)
    rotation = work.finish(rotation, key)
    shown = {
        **_named(provider, tenant),
        "version": rotation.version,
        "before": rotation.before,
        "step": rotation.step,
        **work.proof,
    }
    console.emit(shown, f"{provider} is called with the new key. The old one is kept for `keys rollback {provider}`.")


@keys_command.command()
@click.argument("provider", type=SLUG)
@_tenant
@_yes
@pass_console
def rollback(console: Console, provider: str, tenant: str | None, *, yes: bool) -> None:
    """Use the key before the current one again; or give up a rotation that was broken off."""
    work = Rotating(console, _called(console, provider, tenant), is_sure=yes)
    rotation = work.roll_back()
    console.note(version=rotation.version)
    shown = {
        **_named(provider, tenant),
        "version": rotation.before,
        "given_up": rotation.version,
        "step": rotation.step,
        **work.proof,
    }
    console.emit(shown, f"{provider} is called with the key before: version {rotation.before or 'none'}.")


@keys_command.command()
@click.argument("provider", type=SLUG)
@click.option("--tenant", type=SLUG, required=True, help="Whose own key.")
@pass_console
def withdraw(console: Console, provider: str, tenant: str) -> None:
    """Buy for a tenant with your key again; its orders of before stay with its own."""
    console.registry.set_own_key(tenant, provider, is_used=False)
    console.emit(
        {"provider": provider, "tenant": tenant, "own_key": False},
        f"{tenant} orders at {provider} with your key from its next request on. Its own key stays in Secrets Manager:"
        " the orders that it bought are asked for with it.",
    )


@keys_command.command(trace=Trace.NONE)
@click.argument("provider", type=SLUG)
@_tenant
@pass_console
def history(console: Console, provider: str, tenant: str | None) -> None:
    """Say which versions of a key there were: when, by whom, and what proved them; never the keys."""
    account = _called(console, provider, tenant).account
    rotations, labels = Rotations(console.parts.table), console.parts.vault.labels(account)
    known = sorted(rotations.history(account), key=lambda rotation: int(rotation.events[0]["at"]))
    strange = sorted(labels.keys() - {rotation.version for rotation in known})
    versions = [_unrecorded(version) for version in strange] + [_recorded(rotation) for rotation in known]
    for one in versions:
        one["labels"] = sorted(labels.get(one["version"], ()))
        one["rejected_at"] = moment(rotations.rejected(account, one["version"]))
    rows: list[tuple[object, ...]] = [
        (one["version"], one["step"], one["labels"], one["began_at"], one["by"], cell(one["proof"])) for one in versions
    ]
    table = Rows(("version", "step", "labels", "began", "by", "proof"), rows)
    console.emit({**_named(provider, tenant), "versions": versions}, str(table))


def _called(console: Console, slug: str, tenant: str | None) -> Provider:
    """Return a provider as it is called with the key that is meant."""
    provider = console.registry.provider(slug)
    return provider if tenant is None else provider.called_by(console.registry.tenant(tenant).id)


def _named(provider: str, tenant: str | None) -> dict[str, Any]:
    return {"provider": provider, "tenant": tenant}


def _unrecorded(version: str) -> dict[str, Any]:
    nothing = ("step", "before", "other_account", "began_at", "promoted_at", "by", "proof")
    return {"version": version, **dict.fromkeys(nothing), "events": []}


def _recorded(rotation: Rotation) -> dict[str, Any]:
    events = rotation.events
    return {
        "version": rotation.version,
        "step": rotation.step,
        "before": rotation.before,
        "other_account": rotation.other_account,
        "began_at": moment(events[0]["at"]),
        "promoted_at": moment(rotation.promoted),
        "by": events[0]["by"],
        "proof": next((event["proof"] for event in events if "proof" in event), None),
        "events": [{**event, "at": moment(event["at"])} for event in events],
    }
