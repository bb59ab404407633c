"""One call to a panel: reserve its pace, take the key, translate, send, translate back.

A call goes out again only after an answer that proves that the panel did nothing with the one before.
"""

import secrets
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial
from types import MappingProxyType

from chalicelib.actions import (
    Answer,
    Balance,
    Call,
    Item,
    Items,
    PanelService,
    Placed,
    Reason,
    RefillReading,
    Refused,
    Services,
    Status,
)
from chalicelib.errors import Unavailable, UnreadableReply
from chalicelib.keys import ProviderKey
from chalicelib.model import Provider
from chalicelib.panels import DIALECTS
from chalicelib.panels.dialect import Dialect, Reply
from chalicelib.ports import SECOND, Clock, Pace, Sender, Vault

# What is the operator's trouble, not the order's: the panel did nothing, and in so many seconds it may.
RETRY_AFTER: Mapping[Reason, int] = MappingProxyType(
    {
        Reason.BAD_KEY: 60,
        Reason.NO_FUNDS: 300,
        Reason.THROTTLED: 2,
        Reason.UNAVAILABLE: 60,
    }
)
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
        key = self.vault.key(provider.account, until=window.deadline)
        answer = self._try(provider, call, window, key, partial(before, key, 1) if before else None)
        for number, again in enumerate(self._keys_for_other_tries(provider, key, answer, window.deadline), 2):
            answer = self._try(provider, call, window, again, partial(before, again, number) if before else None)
            if not _rejects_key(answer):
                break
        return answer

    def _keys_for_other_tries(
        self, provider: Provider, key: ProviderKey, answer: Answer, deadline: int
    ) -> Iterator[ProviderKey]:
        """Yield the keys to ask once more with, after an answer by which the panel did nothing.

        A rejected key may have been rotated. A throttled call came too close to another one, though each had its slot:
        the ways to a panel are not equally long. It gets a new slot.
        """
        if isinstance(answer, Refused) and answer.reason is Reason.THROTTLED and provider.interval:
            yield key
        elif _rejects_key(answer):
            yield from self.vault.instead(provider.account, key, until=deadline)

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
        return _decoded(dialect, call, reply, key)

    def _await_slot(self, provider: Provider, holder: str, latest: int) -> None:
        if not provider.interval and provider.concurrency is None:
            return
        slot = self.pace.reserve(provider, holder=holder, latest=latest)
        if slot is None:
            raise Unavailable("the provider's pace is used up", retry_after=_RETRY_AFTER_PACE)
        self.clock.sleep(max(0, slot - self.clock.now()) / SECOND)


def _rejects_key(answer: Answer) -> bool:
    return isinstance(answer, Refused) and answer.reason is Reason.BAD_KEY


def dialect_of(provider: Provider) -> Dialect:
    """Return the provider's dialect.

    Raises:
        Unavailable: this version does not know it.
    """
    try:
        return DIALECTS[provider.dialect]
    except KeyError:
        raise Unavailable(f"unknown dialect {provider.dialect}") from None


def _decoded(dialect: Dialect, call: Call, reply: Reply, key: ProviderKey) -> Answer:
    """Read a reply. Panels echo the key in errors; from here on it is not there any more.

    It is taken out twice: JSON can escape any letter, so that a key may stand in the answer and not in the bytes.
    """
    try:
        return _scrubbed(dialect.decode(call, _without_key(reply, key)), key)
    except UnreadableReply as error:
        raise UnreadableReply(key.redact(str(error))) from None


def _scrubbed(answer: Answer, key: ProviderKey) -> Answer:
    match answer:
        case Placed():
            return replace(answer, warning=answer.warning and key.redact(answer.warning))
        case Services():
            services = tuple(_scrubbed_service(service, key) for service in answer.services)
            return Services(services, tuple(map(key.redact, answer.skipped)))
        case Items():
            return Items({number: _scrubbed_item(item, key) for number, item in answer.items.items()})
        case Balance():
            return answer
        case _:
            return _scrubbed_item(answer, key)


def _scrubbed_item(item: Item, key: ProviderKey) -> Item:
    match item:
        case Refused():
            return replace(item, text=key.redact(item.text))
        case Status():
            return replace(item, raw_status=key.redact(item.raw_status))
        case RefillReading():
            return replace(item, raw_status=key.redact(item.raw_status))
        case _:
            return item


def _scrubbed_service(service: PanelService, key: ProviderKey) -> PanelService:
    return replace(
        service,
        name=key.redact(service.name),
        type=key.redact(service.type),
        category=key.redact(service.category),
        extra={name: key.redact(text) for name, text in service.extra.items()},
    )


def _without_key(reply: Reply, key: ProviderKey) -> Reply:
    headers = {name: key.redact(value) for name, value in reply.headers.items()}
    return Reply(reply.status, headers, key.redact_bytes(reply.body))
