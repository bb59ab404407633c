"""What a container may be at when something befalls it: how each scene is set, and what is done in it.

A scene is set without faults, by what happens in life: a request whose answer was lost, a sender that died. ``act`` is
the one run of one container whose I/O is counted, and each call of which meets each fault (`test_faults`).
"""

import contextlib
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial

import click

from chalicelib import money
from chalicelib.clock import DAY, MINUTE, SECOND
from chalicelib.commands import CancelCommand, RefillCommand, TokenCommand
from chalicelib.errors import PanelgateError
from chalicelib.issuing import Issued
from chalicelib.jobs import settle_orders, sweep_orders
from chalicelib.wiring import Parts
from sandbox.faults import ActiveFault
from tests.faults import SEND, Fault, Hit, Killed, Wire, vanished
from tests.faults import killed_before as killed
from tests.faults import reply_lost as lost
from tests.stall import QUIET, Stall

NAME = "a"
FOR_EVER = 10**6


@dataclass(frozen=True)
class Scenario:
    """One scene; ``calls`` is its I/O without faults, in order, which a test holds it to."""

    name: str
    calls: str
    prepare: Callable[[Stall], None]
    act: Callable[[Stall, Parts], object]
    is_asked_again: bool = False
    slug: str = "smosale"

    def run(self, stall: Stall, wire: Wire) -> None:
        """Act in a container of its own, whatever becomes of that."""
        wire.rival = lambda: self._act(stall, stall.container())
        self._act(stall, stall.container(wire))
        stall.late += wire.late

    def _act(self, stall: Stall, parts: Parts) -> None:
        with contextlib.suppress(Killed, PanelgateError, click.ClickException):
            self.act(stall, parts)

    def repeat(self, stall: Stall) -> None:
        """Do what a caller does who was not answered."""
        self._act(stall, stall.container())


def add(stall: Stall, parts: Parts) -> None:
    stall.add(NAME, parts)


def status(stall: Stall, parts: Parts) -> None:
    stall.status(parts)


def refill(stall: Stall, parts: Parts) -> None:
    stall.request(parts, RefillCommand(orders=[order.id for order in stall.orders()]))


def cancel(stall: Stall, parts: Parts) -> None:
    stall.request(parts, CancelCommand(orders=[order.id for order in stall.orders()]))


def settle(_stall: Stall, parts: Parts) -> None:
    settle_orders(parts)


def sweep(_stall: Stall, parts: Parts) -> None:
    sweep_orders(parts)


def place(stall: Stall, parts: Parts) -> None:
    stall.resolve(parts, "--provider-order", str(stall.sold()[NAME][0].id))


def give_up(stall: Stall, parts: Parts) -> None:
    stall.resolve(parts, "--not-placed")


def pay_back(stall: Stall, parts: Parts) -> None:
    [sold] = stall.sold()[f"{NAME}-partial"]
    stall.resolve(parts, "--refund", money.text(money.micros(sold.refunded)))


def nothing(_stall: Stall) -> None:
    """Begin with an empty stage."""


def buys(name: str, seconds: int) -> Callable[[Stall], None]:
    """Return a scene in which something was bought some time ago."""

    def scene(stall: Stall) -> None:
        stall.add(name)
        stall.pass_time(seconds * SECOND)

    return scene


def delivered(stall: Stall) -> None:
    """Buy twice, and see that both were delivered: refills may be asked for."""
    stall.add(NAME)
    stall.add("b")
    stall.pass_time(20 * MINUTE)
    stall.jobs()
    stall.pass_time(30 * SECOND)


def untold(stall: Stall) -> None:
    """Buy what ends in part, and let its panel hide how much remains."""
    buys(f"{NAME}-partial", 90)(stall)
    [sold] = stall.sold()[f"{NAME}-partial"]
    sold.shown["remains"] = "Unknown"


def undecided(stall: Stall) -> None:
    """Let the operator be asked what goes back."""
    untold(stall)
    stall.status(stall.parts)


def told_after_all(stall: Stall) -> None:
    """Let a panel tell the day after what it had hidden."""
    undecided(stall)
    [sold] = stall.sold()[f"{NAME}-partial"]
    del sold.shown["remains"]
    stall.pass_time(DAY)


def two(stall: Stall) -> None:
    """Buy twice what nobody has asked for since."""
    stall.add(NAME)
    stall.add("b")
    stall.pass_time(5 * SECOND)


def mishap(stall: Stall, fault: Fault, name: str = SEND) -> None:
    """Buy in a container whose panel, or whose call of some other name, meets a fault."""

    def at_its_call(hit: Hit) -> object:
        return fault(hit) if hit.name == name else hit.call()

    wire = Wire(stall, at_its_call, 0, FOR_EVER)
    stall.add(NAME, stall.container(wire))
    stall.late += wire.late


def known(stall: Stall) -> None:
    """Buy something that is known, and let the account be marked: what comes next can be told by it."""
    stall.add("before")
    stall.pass_time(MINUTE)
    stall.jobs()
    stall.pass_time(30 * SECOND)


def guarded(stall: Stall) -> None:
    """Let a tenant refuse duplicates and count its days: there is room for two more orders."""
    known(stall)
    guards = {"daily_spend": 2 * stall.orders()[0].charge, "refuse_duplicate_link": True}
    stall.market.registry.change_tenant("acme", partial(replace, **guards))


def by_page(stall: Stall) -> None:
    """Let a page buy, with a token that has room for two orders."""
    known(stall)
    limit = money.amount(2 * stall.orders()[0].charge)
    asked = TokenCommand.read({"actions": ["add"], "ttl": 3600, "max_charge": limit})
    issued = stall.request(stall.parts, asked)
    assert isinstance(issued, Issued)
    stall.market.key = issued.token
    stall.pass_time(SECOND)


def unknown(fault: Fault, *, minutes: int = 1) -> Callable[[Stall], None]:
    """Return a scene in which what became of an order has not been known for so many minutes."""

    def scene(stall: Stall) -> None:
        known(stall)
        mishap(stall, fault)
        for _ in range(minutes - 1):
            stall.pass_time(MINUTE)
            stall.jobs()
        stall.pass_time(MINUTE)

    return scene


def shared(fault: Fault) -> Callable[[Stall], None]:
    """Return a scene in which an order is the operator's: others order with the key, and nothing proves anything."""

    def scene(stall: Stall) -> None:
        stall.market.registry.change_provider(stall.slug, partial(replace, exclusive_key=False))
        mishap(stall, fault)
        stall.pass_time(MINUTE + QUIET)

    return scene


def zombie(hit: Hit) -> object:
    """Write the first byte in time, and the rest of it when the settlement has given the order up."""
    place = hit.wire.place
    assert isinstance(place, Stall)
    place.settle_down()
    return hit.arrive()


def delivered_late(stall: Stall) -> None:
    known(stall)
    mishap(stall, zombie)


def unconfirmed(stall: Stall) -> None:
    """Buy what the panel confirms later."""
    stall.panel.faults.append(ActiveFault(fault="pending", action="add", count=1))
    stall.add(NAME)
    stall.pass_time(30 * SECOND)


def orphaned(stall: Stall) -> None:
    """Let a container die between the acceptance and the panel."""
    known(stall)
    mishap(stall, killed)
    stall.pass_time(2 * MINUTE)


SCENARIOS = (
    Scenario(
        "add",
        "update_item query get_item transact_write_items get_secret_value send transact_write_items",
        known,
        add,
        is_asked_again=True,
    ),
    Scenario(
        "add_guarded",
        "update_item query get_item transact_write_items get_secret_value send transact_write_items",
        guarded,
        add,
        is_asked_again=True,
    ),
    Scenario(
        "add_by_page",
        "get_item update_item query get_item transact_write_items get_secret_value send transact_write_items",
        by_page,
        add,
        is_asked_again=True,
    ),
    Scenario("status", "update_item batch_get_item query get_secret_value send update_item", buys(NAME, 30), status),
    Scenario(
        "refund",
        "update_item batch_get_item query get_secret_value send transact_write_items",
        buys(f"{NAME}-cancel", 90),
        status,
    ),
    Scenario(
        "refund_untold",
        "update_item batch_get_item query get_secret_value send transact_write_items",
        untold,
        status,
    ),
    Scenario(
        "refill",
        "update_item batch_get_item query get_secret_value send put_item put_item",
        delivered,
        refill,
        is_asked_again=True,
    ),
    Scenario("cancel", "update_item batch_get_item query get_secret_value send", two, cancel, is_asked_again=True),
    Scenario(
        "confirmation",
        "update_item batch_get_item query get_secret_value update_item send transact_write_items update_item",
        unconfirmed,
        status,
        slug="smmafrica",
    ),
    Scenario(
        "settle_refunds",
        "query query query get_item query query query batch_get_item get_secret_value send transact_write_items"
        " update_item send query query put_item query query query query query query query",
        buys(f"{NAME}-partial", 90),
        settle,
    ),
    Scenario(
        "settle_refund_told",
        "query query query get_item query query query get_secret_value send query query put_item query query"
        " batch_get_item send transact_write_items update_item query query query query query",
        told_after_all,
        settle,
    ),
    Scenario(
        "settle_binds",
        "query query query get_item query query batch_get_item query get_secret_value send query batch_get_item query"
        " put_item query query query batch_get_item get_item query query send query batch_get_item query"
        " transact_write_items query query query query",
        unknown(lost),
        settle,
    ),
    Scenario(
        "settle_disproves",
        "query query query get_item query query batch_get_item query get_secret_value send query batch_get_item query"
        " put_item query query query batch_get_item get_item query query send transact_write_items query query"
        " query query",
        unknown(vanished, minutes=3),
        settle,
    ),
    Scenario(
        "settle_confirms",
        "query query query get_item query query batch_get_item query get_secret_value update_item send query"
        " batch_get_item query put_item query query query batch_get_item get_item query query update_item send"
        " transact_write_items query query query query",
        unconfirmed,
        settle,
        slug="smmafrica",
    ),
    Scenario("sweep", "query query batch_get_item query update_item", orphaned, sweep),
    Scenario(
        "resolve_place",
        "get_item get_item query batch_get_item query get_secret_value send transact_write_items get_item query",
        shared(lost),
        place,
        is_asked_again=True,
    ),
    Scenario(
        "resolve_give_up",
        "get_item get_item query transact_write_items get_item query",
        shared(vanished),
        give_up,
        is_asked_again=True,
    ),
    Scenario(
        "resolve_restore",
        "get_item get_item query batch_get_item query get_secret_value send transact_write_items get_item query",
        delivered_late,
        place,
        is_asked_again=True,
    ),
    Scenario(
        "resolve_loss",
        "get_item get_item query transact_write_items get_item query",
        delivered_late,
        give_up,
        is_asked_again=True,
    ),
    Scenario(
        "resolve_refund",
        "get_item get_item transact_write_items get_item query",
        undecided,
        pay_back,
        is_asked_again=True,
    ),
)
