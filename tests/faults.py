"""What can befall one I/O call of a container: on a wire where one call of many meets it, or in a client of AWS."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Protocol

from botocore.exceptions import ClientError, ReadTimeoutError

from chalicelib.clock import SECOND
from chalicelib.errors import AnswerLost, NeverSent
from chalicelib.panels.dialect import Reply, Request
from chalicelib.ports import Sender
from chalicelib.wiring import Parts
from tests.stage import MovableClock, Stage

SEND, TRANSACT = "send", "transact_write_items"


class Killed(BaseException):
    """The process is gone: no handler of ours may see this."""


class Place(Protocol):
    """Where a container runs: a ``World``, a ``Market`` or a ``Stall``."""

    @property
    def parts(self) -> Parts: ...

    @property
    def time(self) -> MovableClock: ...


@dataclass
class Hit:
    """One call that meets a fault; ``arrive`` is what becomes of it at the other end, whatever its sender thinks."""

    name: str
    call: Callable[[], Any]
    arrive: Callable[[], Any]
    deadline: float | None
    wire: "Wire"

    @property
    def is_send(self) -> bool:
        return self.name == SEND

    def lose(self) -> Any:
        if self.is_send:
            raise AnswerLost("the reply was lost")
        raise ReadTimeoutError(endpoint_url="http://store")


Fault = Callable[[Hit], Any]


def store_error(code: str, status: int = 400, **more: Any) -> ClientError:
    """Return what botocore raises for an answer of the store; ``more`` are further fields of it."""
    response: Any = {"Error": {"Code": code}, "ResponseMetadata": {"HTTPStatusCode": status}, **more}
    return ClientError(response, "Fault")


def killed_before(_hit: Hit) -> Any:
    raise Killed


def killed_after(hit: Hit) -> Any:
    hit.call()
    raise Killed


def reply_lost(hit: Hit) -> Any:
    hit.call()
    return hit.lose()


def request_lost(hit: Hit) -> Any:
    if hit.is_send:
        raise NeverSent("no connection")
    return hit.lose()


def throttled(hit: Hit) -> Any:
    if hit.is_send:
        return Reply(429, {}, b'{"error":"Too many requests"}')
    raise store_error("ThrottlingException")


def broken(hit: Hit) -> Any:
    if hit.is_send:
        return Reply(500, {}, b"<html>")
    raise store_error("InternalServerError", 500)


def broken_after(hit: Hit) -> Any:
    """Do it, and answer with an error."""
    hit.call()
    return broken(hit)


def conflict(hit: Hit) -> Any:
    if hit.name != TRANSACT:
        return hit.call()
    reasons = [{"Code": "TransactionConflict"}, {"Code": "None"}]
    raise store_error("TransactionCanceledException", CancellationReasons=reasons)


def vanished(hit: Hit) -> Any:
    """Something left, nothing came back, and the panel has not got it: nobody can tell."""
    return hit.lose()


def late(hit: Hit) -> Any:
    """The panel gets the request when its sender has long given up and the settlement has begun to look for it."""
    if hit.is_send:
        hit.wire.late.append((hit.wire.place.time.at + 110 * SECOND, hit.arrive))
    return hit.lose()


def overtaken(hit: Hit) -> Any:
    """Let another container do all of the same just before."""
    hit.wire.rival()
    return hit.call()


def followed(hit: Hit) -> Any:
    """Let another container do all of the same just after."""
    reply = hit.call()
    hit.wire.rival()
    return reply


def _delayed(seconds: int) -> Fault:
    def delayed(hit: Hit) -> Any:
        reply = hit.call()
        time = hit.wire.place.time
        time.at += seconds * SECOND
        # The real sender ends at its deadline; a container that was frozen meanwhile comes back even later.
        if hit.deadline is not None and time.at > hit.deadline * SECOND:
            return hit.lose()
        return reply

    delayed.__name__ = f"delay_{seconds}s"
    return delayed


FAULTS: list[Fault] = [killed_before, killed_after, reply_lost, request_lost, throttled, broken, conflict]
"""Those that any call may meet."""
DELAYS: list[Fault] = [_delayed(3), _delayed(20), _delayed(60)]
ONCE = frozenset({killed_before, killed_after, overtaken, followed})
"""Those after which no other one can come, or need."""
_OF_ANY: list[Fault] = [*(fault for fault in FAULTS if fault is not conflict), *DELAYS, overtaken, followed]
_OF: Mapping[str, Sequence[Fault]] = MappingProxyType(
    {
        SEND: [*_OF_ANY, broken_after, vanished, late],
        TRANSACT: [*_OF_ANY, broken_after, conflict],
        "update_item": [*_OF_ANY, broken_after],
        "put_item": [*_OF_ANY, broken_after],
    }
)


def faults_of(name: str) -> Sequence[Fault]:
    """Return all that may befall a call of this name."""
    return _OF.get(name, _OF_ANY)


StoreFault = Callable[[str, dict[str, Any], Callable[[], Any]], Any]
"""What becomes of a call: of its operation, its request, and what makes it; a changed request is sent as it is then."""


@dataclass(frozen=True)
class Faulty:
    """A client of AWS whose every call is in the hands of a fault."""

    real: Any
    fault: StoreFault

    def __getattr__(self, name: str) -> Any:
        return lambda **request: self.fault(name, request, lambda: getattr(self.real, name)(**request))


def faulty(stage: Stage, fault: StoreFault) -> Parts:
    """Return a container whose store is in the hands of a fault."""
    return stage.twin(dynamodb=Faulty(stage.parts.table.client, fault))


def is_acceptance(name: str, request: dict[str, Any]) -> bool:
    """Say whether a call is the transaction that accepts an order."""
    return name == TRANSACT and "Put" in request["TransactItems"][0]


def acceptances_lost(times: int) -> StoreFault:
    """Return a fault that applies acceptances, and loses the first answers to them."""
    left = iter(range(times))

    def lost(name: str, request: dict[str, Any], call: Callable[[], Any]) -> Any:
        reply = call()
        if is_acceptance(name, request) and next(left, None) is not None:
            raise ReadTimeoutError(endpoint_url="http://store")
        return reply

    return lost


def release_lost(name: str, request: dict[str, Any], call: Callable[[], Any]) -> Any:
    """Lose each request that gives a provider's concurrency back."""
    if name == "update_item" and request["UpdateExpression"].startswith("REMOVE #inflight"):
        raise ReadTimeoutError(endpoint_url="http://store")
    return call()


@dataclass
class Wire:
    """All I/O of one container passes here; the call with the number ``at`` meets the fault, ``times`` times."""

    place: Place
    fault: Fault | None = None
    at: int = -1
    times: int = 1
    names: list[str] = field(default_factory=list)
    late: list[tuple[int, Callable[[], Any]]] = field(default_factory=list)
    rival: Callable[[], object] = lambda: None

    @property
    def calls(self) -> int:
        return len(self.names)

    def pass_on(
        self, name: str, call: Callable[[], Any], arrive: Callable[[], Any], deadline: float | None = None
    ) -> Any:
        number = len(self.names)
        self.names.append(name)
        if self.fault is not None and self.at <= number < self.at + self.times:
            return self.fault(Hit(name, call, arrive, deadline, self))
        return call()

    def client(self, real: Any) -> Any:
        return Faulty(real, lambda name, _request, call: self.pass_on(name, call, call))

    def sender(self, real: Sender | None = None) -> Sender:
        wire, network = self, self.place.parts.sender

        class Wired:
            def send(self, url: str, request: Request, *, deadline: float, send_by: float | None = None) -> Reply:
                def call() -> Reply:
                    return (real or network).send(url, request, deadline=deadline, send_by=send_by)

                def arrive() -> Reply:
                    return network.send(url, request, deadline=deadline)

                reply: Reply = wire.pass_on(SEND, call, arrive, deadline)
                return reply

        return Wired()
