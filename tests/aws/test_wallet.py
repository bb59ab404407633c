"""Wallets: each movement once, never below zero, always the sum of the ledger."""

import threading

import pytest

from chalicelib.aws.wallet import ReferenceReused
from chalicelib.clock import SECOND
from chalicelib.errors import Refusal, StoreBusy
from chalicelib.model import Tenant
from tests.world import World


def test_a_credit_counts_once_by_its_reference(world: World) -> None:
    assert world.parts.wallet.credit("acme", SECOND, reference="r1")
    world.time.sleep(1)
    assert not world.parts.wallet.credit("acme", SECOND, reference="r1")
    assert world.money() == (101 * SECOND, 0)


def test_a_reference_stands_for_one_amount(world: World) -> None:
    world.parts.wallet.credit("acme", SECOND, reference="r1")
    with pytest.raises(ReferenceReused):
        world.parts.wallet.credit("acme", 2 * SECOND, reference="r1")
    assert world.money() == (101 * SECOND, 0)


def test_racing_orders_never_spend_more_than_there_is(world: World) -> None:
    key = world.add_tenant(Tenant(id="tight", interval=1, burst=1000), credit=5 * 900_000 + 1)
    outcomes: list[str] = []

    def order() -> None:
        try:
            world.add(key, parts=world.twin())
        except (Refusal, StoreBusy) as error:
            outcomes.append(getattr(error, "code", "busy"))
        else:
            outcomes.append("placed")

    threads = [threading.Thread(target=order) for _ in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert outcomes.count("placed") == 5
    assert outcomes.count("insufficient_funds") == 11
    assert world.money("tight") == (1, 0)
    assert len(world.panel.purchases) == 5
