"""Every I/O call of an ``add``, each failing in every way: at most one purchase, and every cent accounted for.

One run without faults counts the calls; then each of them is killed before and after, loses its reply, meets a
conflict, is throttled or fails, on its own. The panel counts the purchases, not the database.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import pytest
from botocore.exceptions import ClientError, ReadTimeoutError

from chalicelib.errors import AnswerLost, Code, NeverSent, Refusal, StoreBusy
from chalicelib.jobs import sweep_orders
from chalicelib.model import OrderState
from chalicelib.panels.dialect import Reply, Request
from chalicelib.ports import Sender
from tests.world import SECOND, World

CREDIT = 100 * SECOND
PRICE = 900_000


class Killed(BaseException):
    """The process is gone: no handler of ours may see this."""


def _error(code: str, status: int) -> ClientError:
    return ClientError({"Error": {"Code": code}, "ResponseMetadata": {"HTTPStatusCode": status}}, "Fault")  # type: ignore[typeddict-item]


def killed_before(_call: Callable[[], Any], _name: str) -> Any:
    raise Killed


def killed_after(call: Callable[[], Any], _name: str) -> Any:
    call()
    raise Killed


def reply_lost(call: Callable[[], Any], name: str) -> Any:
    call()
    if name == "send":
        raise AnswerLost("the reply was lost")
    raise ReadTimeoutError(endpoint_url="http://store")


def request_lost(_call: Callable[[], Any], name: str) -> Any:
    if name == "send":
        raise NeverSent("no connection")
    raise ReadTimeoutError(endpoint_url="http://store")


def throttled(_call: Callable[[], Any], name: str) -> Any:
    if name == "send":
        return Reply(429, {}, b'{"error":"Too many requests"}')
    raise _error("ThrottlingException", 400)


def broken(_call: Callable[[], Any], name: str) -> Any:
    if name == "send":
        return Reply(500, {}, b"<html>")
    raise _error("InternalServerError", 500)


def conflict(call: Callable[[], Any], name: str) -> Any:
    if name != "transact_write_items":
        return call()
    error = _error("TransactionCanceledException", 400)
    error.response["CancellationReasons"] = [{"Code": "TransactionConflict"}, {"Code": "None"}]
    raise error


FAULTS = [killed_before, killed_after, reply_lost, request_lost, throttled, broken, conflict]
Fault = Callable[[Callable[[], Any], str], Any]


@dataclass
class Wire:
    """All I/O of one container passes here; the call with the number ``at`` meets the fault, ``times`` times."""

    world: World
    fault: Fault | None = None
    at: int = -1
    times: int = 1
    calls: int = 0

    def pass_on(self, call: Callable[[], Any], name: str) -> Any:
        number, self.calls = self.calls, self.calls + 1
        if self.fault is not None and self.at <= number < self.at + self.times:
            return self.fault(call, name)
        return call()

    def client(self, real: Any) -> Any:
        wire = self

        class Client:
            def __getattr__(self, name: str) -> Any:
                return lambda **request: wire.pass_on(lambda: getattr(real, name)(**request), name)

        return Client()

    def sender(self) -> Sender:
        wire = self

        class Wired:
            def send(self, url: str, request: Request, *, deadline: float, send_by: float | None = None) -> Reply:
                def call() -> Reply:
                    return wire.world.parts.sender.send(url, request, deadline=deadline, send_by=send_by)

                reply: Reply = wire.pass_on(call, "send")
                return reply

        return Wired()

    def add(self) -> str:
        """Place the order from a cold container and return what its caller was told."""
        parts = self.world.twin(
            self.client(self.world.parts.table.client), self.client(self.world.secrets), self.sender()
        )
        try:
            receipt = self.world.add(parts=parts, idempotency_key="k1")
        except Refusal as refusal:
            return refusal.code
        except StoreBusy:
            return Code.SERVICE_UNAVAILABLE
        except Killed:
            return "nothing"
        return "pending" if receipt.pending else f"order {receipt.order}"


def _check(world: World, told: str) -> None:
    """Check the promises, then let the client retry until it is told an outcome, and check them again."""
    purchases = len(world.panel.purchases)
    assert purchases <= 1
    if told.startswith("order"):
        assert purchases == 1
    assert sum(world.money()) in (CREDIT, CREDIT - PRICE), "a cent was made or lost"

    world.time.sleep(300)
    sweep_orders(world.twin())
    for _ in range(3):
        try:
            receipt = world.add(idempotency_key="k1")
        except Refusal as refusal:
            if refusal.code is not Code.SERVICE_UNAVAILABLE:
                raise
            continue
        order = world.parts.orders.get("acme", receipt.order)
        assert order is not None
        if told.startswith("order"):
            assert told == f"order {order.id}"
    assert len(world.panel.purchases) <= 1, "a retry bought again"
    orders = list(world.parts.orders.page("acme"))
    assert not [order for order in orders if order.state is OrderState.SENDING]
    spent = sum(order.hold for order in orders if order.state is OrderState.PLACED)
    held = sum(order.hold for order in orders if order.state is OrderState.UNKNOWN)
    assert world.money() == (CREDIT - spent - held, held)
    assert sum(world.spent().values()) in (0, spent + held), "its day counted what was not bought, or not what was"


def test_the_calls_of_an_add_are_few(world: World) -> None:
    wire = Wire(world)
    assert wire.add().startswith("order")
    # admit, providers, service, accept, secret, send, place: a warm container leaves out three of these.
    assert wire.calls == 7


def _matrix() -> Iterator[tuple[int, Fault, int]]:
    for at in range(7):
        for fault in FAULTS:
            for times in (1, 1000):
                if times == 1 or not fault.__name__.startswith("killed"):
                    yield at, fault, times


@pytest.mark.parametrize(
    ("at", "fault", "times"),
    list(_matrix()),
    ids=lambda value: getattr(value, "__name__", str(value)),
)
@pytest.mark.parametrize("guarded", [False, True])
def test_no_fault_buys_twice_or_loses_money(world: World, at: int, fault: Fault, times: int, *, guarded: bool) -> None:
    if guarded:  # one order a day has room, and one on its link
        tenant = replace(world.registry.tenant("acme"), daily_spend=PRICE, refuse_duplicate_link=True)
        world.registry.set_tenant(tenant)
    _check(world, Wire(world, fault, at, times).add())
