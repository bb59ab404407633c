"""`panelgate clients`: the tenants' programs and their keys, each shown once."""

from typing import Any

import click

from chalicelib.aws.clients import Client, IssuedKey
from chalicelib.clock import SECOND
from cli.acts import Trace
from cli.console import Console, Failure, Group, pass_console
from cli.options import ACTIONS, EXPIRY, NAME, NETWORK, OVERLAP, SLUG, SLUGS
from cli.tenants import check_providers
from cli.text import Rows, cell, duration_text, moment

WITHOUT = {"actions": "all", "providers": "all", "allow_ip": "any", "expires": "never", "last_used": "never"}
"""What people read where there is no restriction."""


@click.group("clients", cls=Group)
def clients_command() -> None:
    """Programs of the tenants, and their keys."""


@clients_command.command()
@click.argument("tenant", type=SLUG)
@click.option("--name", type=NAME, default="", help="What to call it.")
@click.option("--actions", type=ACTIONS, default=(), help="The only actions it may use: balance,status.")
@click.option("--providers", type=SLUGS, default=(), help="The only providers it may use.")
@click.option("--expires", type=EXPIRY, help="When its key stops working: 90d.")
@click.option("--test", is_flag=True, help="Make a key for the built-in test provider: nothing is bought.")
@click.option("--allow-ip", type=NETWORK, multiple=True, help="A range it may call from; may be repeated.")
@pass_console
def create(  # noqa: PLR0913 - a client is made of these
    console: Console,
    /,
    tenant: str,
    *,
    name: str,
    actions: tuple[str, ...],
    providers: tuple[str, ...],
    expires: int | None,
    allow_ip: tuple[str, ...],
    test: bool,
) -> None:
    """Make a client of a tenant, and print its key, which is shown only now."""
    if test and providers:
        raise click.UsageError("A test key knows the test provider only: leave out --providers.")
    _check_scope(console, tenant, providers)
    issued = console.clients.create(
        tenant,
        name=name,
        actions=actions or None,
        providers=providers or None,
        networks=allow_ip,
        expires=None if expires is None else console.parts.clock.now() + expires * SECOND,
        test=test,
    )
    _emit_key(console, issued, "Keep the key: it is stored nowhere and shown only now.")


def _check_scope(console: Console, tenant: str, providers: tuple[str, ...]) -> None:
    allowed = console.registry.tenant(tenant).providers
    check_providers(console, providers)
    outside = [name for name in providers if allowed is not None and name not in allowed]
    if outside:
        raise Failure(f"{tenant} itself may not use {', '.join(outside)}: see `panelgate tenants show {tenant}`.")


def _emit_key(console: Console, issued: IssuedKey, advice: str) -> None:
    client, key = issued.client.id, issued.key
    console.note(client=client, key_id=issued.client.keys[-1])
    console.emit({"client": client, "key": key}, f"client  {client}\nkey     {key}\n\n{advice}")


@clients_command.command("list", trace=Trace.NONE)
@click.argument("tenant", type=SLUG)
@pass_console
def list_all(console: Console, tenant: str) -> None:
    """List a tenant's clients; keys are shown by their ids only."""
    found = console.clients.of(tenant)
    rows: list[tuple[object, ...]] = [
        tuple(WITHOUT[name] if not value and name in WITHOUT else value for name, value in document(client).items())
        for client in found
    ]
    headings = (
        "client", "name", "test", "actions", "providers", "addresses", "created", "expires", "last used", "revoked",
        "keys",
    )  # fmt: skip
    console.emit({"clients": [document(client) for client in found]}, str(Rows(headings, rows)))


@clients_command.command()
@click.argument("client")
@click.option(
    "--overlap", type=OVERLAP, default="24h", show_default=True, help="How long the old key still works: 0s to 7d."
)
@pass_console
def rotate(console: Console, client: str, overlap: int) -> None:
    """Give a client a new key, and print it; the old one works on for a while."""
    issued = console.clients.rotate(client, overlap=overlap * SECOND)
    advice = f"The old key stops working in {duration_text(overlap)}." if overlap else "The old key works no more."
    _emit_key(console, issued, advice)


@clients_command.command()
@click.argument("client")
@pass_console
def revoke(console: Console, client: str) -> None:
    """End all keys of a client; its next request is refused."""
    console.clients.revoke(client)
    console.emit({"client": client, "revoked": True}, f"All keys of {cell(client)} have ended.")


def document(client: Client) -> dict[str, Any]:
    """Return what there is to know about a client; null means no restriction."""
    scope = client.scope
    return {
        "client": client.id,
        "name": client.name,
        "test": client.test,
        "actions": None if scope.actions is None else sorted(scope.actions),
        "providers": None if scope.providers is None else sorted(scope.providers),
        "allow_ip": list(scope.networks),
        "created": moment(client.created),
        "expires": moment(client.expires),
        "last_used": moment(client.used),
        "revoked": client.revoked,
        "keys": list(client.keys),
    }
