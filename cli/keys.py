"""`panelgate keys`: the keys at providers; they come from standard input, are proved, and are never printed."""

import uuid
from collections.abc import Iterator
from dataclasses import dataclass, field

import click
from botocore.exceptions import ClientError

from chalicelib.actions import Answer, Balance, Call, GetBalance, Reason, Refused
from chalicelib.calling import Caller, Window
from chalicelib.errors import PanelgateError
from chalicelib.keys import ProviderKey, check_provider_key
from chalicelib.model import Account, Provider
from chalicelib.ports import SECOND, Pace
from cli.console import Console, Failure, Group, pass_console
from cli.options import SLUG, cell, plain

SLOT_TIME = 10 * SECOND
"""How long a command waits for the provider's pace, in µs."""
REPLY_TIME = 15 * SECOND
MARKED_FOR_DELETION = "InvalidRequestException"

SENTENCES = {
    Reason.BAD_KEY: "rejects the key",
    Reason.THROTTLED: "says that it is asked too often: try again in a minute",
}


@dataclass(frozen=True, slots=True)
class Candidate:
    """A vault that holds one key, which is not in use yet."""

    candidate: ProviderKey

    def key(self, account: Account, *, until: int | None = None) -> ProviderKey:
        """Return the key."""
        del account, until
        return self.candidate

    def instead(self, account: Account, rejected: ProviderKey, *, until: int) -> Iterator[ProviderKey]:
        """Offer no other."""
        del account, rejected, until
        return iter(())


@dataclass
class Question:
    """One call to a panel from the command line, and how long its answer took."""

    caller: Caller
    provider: Provider
    call: Call
    sent: int = field(default=0, init=False)
    milliseconds: int = field(default=0, init=False)

    def ask(self) -> Answer:
        """Return the panel's answer.

        Raises:
            Failure: there is none, or it is a refusal.
        """
        clock, slug = self.caller.clock, self.provider.slug
        end = clock.now() + SLOT_TIME
        window = Window(slot_by=end, send_by=end + REPLY_TIME // 2, deadline=end + REPLY_TIME)
        try:
            answer = self.caller.ask(self.provider, self.call, window, before=self._note_start)
        except PanelgateError as error:
            raise Failure(f"{slug} cannot be asked: {cell(str(error))}.") from None
        self.milliseconds = (clock.now() - self.sent) // 1000
        if isinstance(answer, Refused):
            raise Failure(f"{slug} {SENTENCES.get(answer.reason) or f'refuses: {cell(answer.text)[:200]}'}.")
        return answer

    def _note_start(self, _key: ProviderKey, _number: int) -> None:
        self.sent = self.caller.clock.now()


def read_key(console: Console, provider: str) -> str:
    """Read a provider key from standard input or a hidden prompt."""
    try:
        return check_provider_key(console.secret(f"API key at {provider}"))
    except ValueError as error:
        raise Failure(f"This is no key: {error}.") from None


def prove(console: Console, provider: Provider, key: ProviderKey, *, pace: Pace | None = None) -> Balance:
    """Return the balance of the account that a key opens.

    Raises:
        Failure: the provider gives none for this key.
    """
    parts = console.parts
    caller = Caller(pace or parts.caller.pace, Candidate(key), parts.sender, parts.clock)
    answer = Question(caller, provider, GetBalance()).ask()
    if not isinstance(answer, Balance):
        raise Failure(f"{provider.slug} does not answer what was asked.")
    return answer


def store(console: Console, account: Account, key: str) -> ProviderKey:
    """Store a key that is not in use yet, also where the provider had been removed and its secret still waits."""
    vault, token = console.parts.vault, str(uuid.uuid4())
    try:
        return vault.store_pending(account, key, token=token)
    except ClientError as error:
        if error.response["Error"]["Code"] != MARKED_FOR_DELETION:
            raise
    secrets = console.aws.session.client("secretsmanager", endpoint_url=console.aws.endpoint)
    secrets.restore_secret(SecretId=console.parts.settings.provider_secret(account))
    return vault.store_pending(account, key, token=token)


@click.group("keys", cls=Group)
def keys_command() -> None:
    """Your keys at the providers."""


@keys_command.command()
@click.argument("provider", type=SLUG)
@pass_console
def rotate(console: Console, provider: str) -> None:
    """Replace the key at a provider by one from standard input, once it has proved itself."""
    found = console.registry.provider(provider)
    pending = store(console, found.account, read_key(console, provider))
    try:
        balance = prove(console, found, pending)
    except BaseException as error:
        console.parts.vault.discard_pending(found.account, pending.version)
        if isinstance(error, Failure):
            raise Failure(f"{error.message} The new key was dropped; the old one stays in use.") from None
        raise
    console.parts.vault.promote(found.account, pending.version)
    console.emit(
        {
            "provider": provider,
            "version": pending.version,
            "balance": plain(balance.amount),
            "currency": balance.currency,
        },
        f"{provider} is called with the new key within 60 seconds. Keep the old one valid for as long.",
    )


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
