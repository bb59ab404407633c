"""Guards that a mutation of the code showed to be untested: each test goes red when its guard is taken out."""

import contextlib
import json
import logging
from collections.abc import Callable
from dataclasses import dataclass, field

import pytest

from chalicelib.clock import SECOND
from chalicelib.errors import Code, Refusal, StoreBusy
from chalicelib.model import Tenant
from chalicelib.panels.dialect import Reply, Request
from chalicelib.purchase import ANSWER_TIME
from tests.faults import acceptances_lost, faulty
from tests.world import PROVIDER_KEY, PretendPanel, World, buys, cannot_be_reached

CREDIT = 100 * SECOND
PRICE = 900_000


@dataclass
class Watched:
    """Passes everything on and keeps the times that it was given."""

    panel: PretendPanel
    times: list[tuple[float, float | None]] = field(default_factory=list)

    def send(self, url: str, request: Request, *, deadline: float, send_by: float | None = None) -> Reply:
        self.times.append((deadline, send_by))
        return self.panel.send(url, request, deadline=deadline, send_by=send_by)


def test_the_sender_is_told_when_it_is_too_late_to_send(world: World) -> None:
    sender = Watched(world.panel)
    ask = world.deadline().ask
    order = world.parts.orders.get("acme", world.add(parts=world.twin(sender=sender)).order)

    assert order is not None
    assert order.attempt.send_by == ask - ANSWER_TIME
    assert sender.times == [(ask / SECOND, order.attempt.send_by / SECOND)]


def _says(text: str) -> Callable[[PretendPanel, dict[str, str]], Reply]:
    return lambda _panel, _fields: Reply(200, {}, text.encode())


def _escaped(text: str) -> str:
    return "".join(f"\\u{ord(letter):04x}" for letter in text)


@pytest.mark.parametrize("padding", range(285, 300, 7))
def test_a_key_that_is_cut_off_leaves_no_piece(world: World, padding: int) -> None:
    world.panel.behaviours["add"] = _says(
        json.dumps({"error": "x" * padding + PROVIDER_KEY, "errors": "Incorrect link"})
    )
    with pytest.raises(Refusal):
        world.add()
    stored = str(list(world.parts.table.query("T#acme", "ORDER#")))
    assert "xxx" in stored
    assert f"xxxx{PROVIDER_KEY[0]}" not in stored


@pytest.mark.parametrize(
    "body", ['{"error":"KEY","errors":"Incorrect link"}', '{"error":"KEY"}', '{"order":7,"error":"KEY"}']
)
def test_a_key_in_json_escapes_is_neither_stored_nor_logged(
    world: World, body: str, caplog: pytest.LogCaptureFixture
) -> None:
    world.panel.behaviours["add"] = _says(body.replace("KEY", _escaped(PROVIDER_KEY)))
    with caplog.at_level(logging.INFO, logger="panelgate"), contextlib.suppress(Refusal):
        world.add()
    assert caplog.records
    assert PROVIDER_KEY not in str([vars(record) for record in caplog.records])
    assert PROVIDER_KEY not in str(list(world.parts.table.query("T#acme")))


def test_a_rejected_key_is_not_tried_again_when_there_is_no_newer_one(world: World) -> None:
    world.panel.keys.clear()
    with pytest.raises(Refusal):
        world.add()
    assert world.panel.asked("add") == 1


def test_a_younger_orders_claim_is_not_freed_with_an_older_one(world: World) -> None:
    key = world.add_tenant(Tenant(id="careful", dedupe=1))

    def slow_and_unreachable(panel: PretendPanel, fields: dict[str, str]) -> Reply:
        world.panel.behaviours["add"] = buys
        world.time.sleep(2)
        world.add(key, parts=world.twin())
        return cannot_be_reached(panel, fields)

    world.panel.behaviours["add"] = slow_and_unreachable
    with pytest.raises(Refusal) as refused:
        world.add(key)

    assert refused.value.code is Code.SERVICE_UNAVAILABLE
    assert world.money("careful") == (CREDIT - PRICE, 0)
    assert world.add(key).replayed
    assert len(world.panel.purchases) == 1


def test_an_acceptance_that_nobody_heard_of_is_taken_back(world: World) -> None:
    with pytest.raises(StoreBusy):
        world.add(parts=faulty(world, acceptances_lost(10_000)), idempotency_key="k")

    assert not world.panel.requests
    assert world.money() == (CREDIT, 0)
    assert not world.add(idempotency_key="k").replayed


def test_what_is_unknown_already_keeps_its_first_evidence(world: World) -> None:
    world.panel.behaviours["add"] = _says("?")
    first = world.parts.orders.get("acme", world.add().order)
    assert first is not None

    world.time.sleep(1)
    assert world.parts.orders.lose(first, "again", until=world.time.at + SECOND)
    assert world.parts.orders.get("acme", first.id) == first
