"""One call to a panel: reserve its pace, take the key, translate, send, translate back.

A call goes out again only after an answer that proves that the panel did nothing with the one before.
"""

import secrets
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, fields, is_dataclass, replace
from enum import Enum
from functools import partial
from http import HTTPStatus
from itertools import count
from types import MappingProxyType
from typing import Any

from chalicelib.actions import Answer, Call, Reason, Refused
from chalicelib.clock import SECOND, Clock
from chalicelib.errors import Unavailable, UnreadableReply
from chalicelib.keys import ProviderKey
from chalicelib.model import Account, Provider
from chalicelib.panels import DIALECTS
from chalicelib.panels.dialect import Dialect, Reply
from chalicelib.ports import Pace, Sender, Vault
from chalicelib.redaction import redact, redact_body

# What is the operator's trouble, not the order's: the panel did nothing, and in so many seconds it may.
RETRY_AFTER: Mapping[Reason, int] = MappingProxyType(
    {
        Reason.BAD_KEY: 60,
        Reason.KEY_OR_REQUEST: 60,
        Reason.NO_FUNDS: 300,
        Reason.THROTTLED: 2,
        Reason.UNAVAILABLE: 60,
    }
)
# After these the panel did nothing, and may do it for another key.
_ABOUT_THE_KEY = frozenset({Reason.BAD_KEY, Reason.KEY_OR_REQUEST})
# What a panel says with these may be about the key, though no table knows its words.
_ABOUT_WHO_ASKS = frozenset({HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN})
# Giving a lease back takes at most one try of the store (`wiring`).
_RELEASE_TIME = 2 * SECOND
# Whole seconds until a caller for whom no slot was free may ask again.
_RETRY_AFTER_PACE = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Window:
    """When a call may run, in epoch µs: its slot by ``slot_by``, its first byte by ``send_by``, all by ``deadline``."""

    slot_by: int
    send_by: int
    deadline: int


@dataclass(frozen=True, slots=True)
class Caller:
    """Calls panels; everything it needs is handed in."""

    pace: Pace
    vault: Vault
    sender: Sender
    clock: Clock

    def ask(
        self,
        provider: Provider,
        call: Call,
        window: Window,
        *,
        before: Callable[[ProviderKey, int], None] | None = None,
    ) -> Answer:
        """Return what the provider answers to ``call``.

        Args:
            provider: whom to ask.
            call: what to ask, in the provider's own ids.
            window: when it may be asked.
            before: called before each send with the key and the number of the try (from 1); it may raise to stop it.

        Raises:
            Unavailable: no key, or no free slot in time; nothing was sent.
            NeverSent: nothing was sent.
            AnswerLost: it may have been received.
            UnreadableReply: it was answered with something that no table knows.
        """
        tries = count(1)

        def ask_with(key: ProviderKey) -> Answer:
            start = partial(before, key, next(tries)) if before else None
            return self._try(provider, call, window, key, start)

        key = self.vault.key(provider.account, until=window.deadline)
        answer = ask_with(key)
        if isinstance(answer, Refused) and answer.reason is Reason.THROTTLED and provider.interval:
            # It came too close to another one, though each had its slot: the ways to a panel are not equally long.
            answer = ask_with(key)
        if isinstance(answer, Refused) and answer.reason in _ABOUT_THE_KEY:
            reason = answer.reason
            keys = self.vault.instead(
                provider.account, key, until=window.deadline, is_sure=lambda: reason is Reason.BAD_KEY
            )
            for other in keys:
                answer = ask_with(other)
                if not isinstance(answer, Refused) or answer.reason not in _ABOUT_THE_KEY:
                    self.vault.keep(provider.account, other)
                    break
                reason = answer.reason
        return answer

    def _try(
        self, provider: Provider, call: Call, window: Window, key: ProviderKey, start: Callable[[], None] | None
    ) -> Answer:
        dialect = dialect_of(provider)
        request = dialect.encode(call, key.value)
        holder = secrets.token_hex(8)
        self._await_slot(provider, holder, window.slot_by)
        try:
            if start is not None:
                start()
            reply = self.sender.send(
                provider.url,
                request,
                deadline=window.deadline / SECOND,
                send_by=window.send_by / SECOND,
            )
        finally:
            # Late, the answer matters more: the lease ends by itself.
            if provider.concurrency is not None and self.clock.now() + _RELEASE_TIME <= window.deadline:
                self.pace.release(provider, holder=holder)
        try:
            return _decoded(dialect, call, reply)
        except UnreadableReply:
            if reply.status in _ABOUT_WHO_ASKS:
                self.vault.doubt(provider.account, key)
            raise

    def _await_slot(self, provider: Provider, holder: str, latest: int) -> None:
        if not provider.interval and provider.concurrency is None:
            return
        slot = self.pace.reserve(provider, holder=holder, latest=latest)
        if slot is None:
            raise Unavailable("the provider's pace is used up", retry_after=_RETRY_AFTER_PACE)
        self.clock.sleep(max(0, slot - self.clock.now()) / SECOND)


@dataclass(frozen=True, slots=True)
class OneKeyVault:
    """A vault that holds one key, whatever the account; see ``ports.Vault``."""

    only: ProviderKey

    def key(self, account: Account, *, until: int | None = None) -> ProviderKey:
        """Return the key."""
        del account, until
        return self.only

    def version_at_hand(self, account: Account) -> str:
        """Return the key's version."""
        del account
        return self.only.version

    def doubt(self, account: Account, key: ProviderKey) -> None:
        """Do nothing: there is no other."""

    def instead(
        self, account: Account, rejected: ProviderKey, *, until: int, is_sure: Callable[[], bool]
    ) -> Iterator[ProviderKey]:
        """Offer no other."""
        del account, rejected, until, is_sure
        return iter(())

    def keep(self, account: Account, key: ProviderKey) -> None:
        """Do nothing: there is no other."""


def dialect_of(provider: Provider) -> Dialect:
    """Return the provider's dialect.

    Raises:
        Unavailable: this version does not know it.
    """
    try:
        return DIALECTS[provider.dialect]
    except KeyError:
        raise Unavailable(f"unknown dialect {provider.dialect}") from None


def _decoded(dialect: Dialect, call: Call, reply: Reply) -> Answer:
    """Read a reply. Panels echo keys in errors; from here on none is there any more.

    They are taken out twice: JSON can escape any letter, so that a key may stand in the answer and not in the bytes.
    """
    headers = {name: redact(value) for name, value in reply.headers.items()}
    try:
        answer: Answer = _scrubbed(dialect.decode(call, Reply(reply.status, headers, redact_body(reply.body))))
    except UnreadableReply as error:
        raise UnreadableReply(redact(str(error))) from None
    return answer


def _scrubbed(value: Any) -> Any:  # noqa: ANN401 - whatever an answer is made of, and the same again
    """Return an answer without keys in any text of it, whatever fields it has."""
    match value:
        case Enum():
            return value  # a word of ours
        case str():
            return redact(value)
        case tuple():
            return tuple(map(_scrubbed, value))
        case Mapping():
            return {name: _scrubbed(inner) for name, inner in value.items()}
    if is_dataclass(value) and not isinstance(value, type):
        return replace(value, **{field.name: _scrubbed(getattr(value, field.name)) for field in fields(value)})
    return value
