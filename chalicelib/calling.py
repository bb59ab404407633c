"""One call to a panel: reserve its pace, take the key, translate, send, translate back.

A key that the panel rejects is read once more past the cache: after a rotation the container may still hold the
old one. Nothing was bought with a rejected key, so the call may go out again with the new one.
"""

import secrets
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from chalicelib.actions import Answer, Call, Reason, Refused
from chalicelib.errors import Unavailable
from chalicelib.keys import ProviderKey
from chalicelib.model import Provider
from chalicelib.panels import DIALECTS
from chalicelib.panels.dialect import Dialect, Reply
from chalicelib.ports import Clock, Pace, Sender, Vault

MICROSECOND = 1_000_000
# A reservation is waited for by sleeping until it; asking earlier than this costs nothing.
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
            before: called before each send with the key and the number of the try (1 or 2); it may raise to stop it.

        Raises:
            Unavailable: no key, or no free slot in time; nothing was sent.
            NeverSent: nothing was sent.
            AnswerLost: it may have been received.
            UnreadableReply: it was answered with something that no table knows.
        """
        key = self.vault.key(provider.slug)
        answer = self._try(provider, call, window, key, partial(before, key, 1) if before else None)
        if not _key_rejected(answer):
            return answer
        fresh = self.vault.key(provider.slug, fresh=True)
        if fresh.version == key.version:
            return answer
        return self._try(provider, call, window, fresh, partial(before, fresh, 2) if before else None)

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
                deadline=window.deadline / MICROSECOND,
                send_by=window.send_by / MICROSECOND,
            )
        finally:
            if provider.concurrency is not None:
                self.pace.release(provider, holder=holder)
        return dialect.decode(call, _without_key(reply, key))

    def _await_slot(self, provider: Provider, holder: str, latest: int) -> None:
        if not provider.interval and provider.concurrency is None:
            return
        slot = self.pace.reserve(provider, holder=holder, latest=latest)
        if slot is None:
            cause = "the provider's pace is used up"
            raise Unavailable(cause, retry_after=_RETRY_AFTER_PACE)
        self.clock.sleep(max(0, slot - self.clock.now()) / MICROSECOND)


def dialect_of(provider: Provider) -> Dialect:
    """Return the provider's dialect.

    Raises:
        Unavailable: this version does not know it.
    """
    try:
        return DIALECTS[provider.dialect]
    except KeyError:
        cause = f"unknown dialect {provider.dialect}"
        raise Unavailable(cause) from None


def _key_rejected(answer: Answer) -> bool:
    return isinstance(answer, Refused) and answer.reason is Reason.BAD_KEY


def _without_key(reply: Reply, key: ProviderKey) -> Reply:
    """Panels echo the key in errors; from here on it is not there any more."""
    headers = {name: key.redact(value) for name, value in reply.headers.items()}
    return Reply(reply.status, headers, key.redact_bytes(reply.body))
