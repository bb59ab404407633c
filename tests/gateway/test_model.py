"""The protocol of an order as a small model, searched exhaustively: design.md's states hold, common shortcuts do not.

Clients share one idempotency key. Each may die before any step; a request that was sent may be processed now, later or
never, and its reply may be lost; the sweeper and the settlement run at any time. Looked for are states in which

* S: the panel has two orders;
* R: the money was given back for an order that the panel has;
* T: a caller was told of a placed order that the panel does not have.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from enum import StrEnum

import pytest


class Rule(StrEnum):
    OURS = "ours"
    TIMEOUT_IS_FAILURE = "a timeout is taken for a failure, and the money given back"
    LEASE = "an old attempt may be taken over and sent again"
    HASTY = "unknown orders are given up before the panel has had its quiet period"
    TWO_STEPS = "the claim is read and then written"
    RETRY = "a timeout is answered by sending again"


@dataclass(frozen=True)
class Client:
    step: str = "start"  # start, saw nothing, holds the attempt, waits, done, dead
    request: str = "none"  # none, flying, processed, dropped
    told: str = ""
    sends: int = 0


@dataclass(frozen=True)
class World:
    clients: tuple[Client, ...]
    state: str = "none"  # none, sending, placed, unknown, rejected, not placed
    owner: int = -1
    bought: int = 0
    refunded: bool = False

    def but(self, number: int, client: Client, **changes: object) -> "World":
        clients = tuple(client if n == number else other for n, other in enumerate(self.clients))
        return replace(self, clients=clients, **changes)  # type: ignore[arg-type]


def successors(world: World, rule: Rule) -> Iterator[World]:
    for number, client in enumerate(world.clients):
        if client.step not in {"done", "dead"}:
            yield world.but(number, replace(client, step="dead"))
            yield from client_steps(world, number, client, rule)
        if client.request == "flying":  # whoever sent it may be dead by now
            yield world.but(number, replace(client, request="processed"), bought=world.bought + 1)
            yield world.but(number, replace(client, request="dropped"))
    if world.state == "sending" and rule is not Rule.LEASE:
        yield replace(world, state="unknown")  # the sweeper
    if world.state == "unknown" and not world.bought and (rule is Rule.HASTY or quiet(world)):
        yield replace(world, state="not placed", refunded=True)  # the settlement


def quiet(world: World) -> bool:
    """Say whether no sender is alive and nothing can be in flight: what the quiet period stands for."""
    return all(c.request != "flying" and c.step not in {"holds the attempt", "waits"} for c in world.clients)


def client_steps(world: World, number: int, client: Client, rule: Rule) -> Iterator[World]:
    match client.step:
        case "start":
            if world.state == "none":
                if rule is Rule.TWO_STEPS:
                    yield world.but(number, replace(client, step="saw nothing"))
                else:
                    yield claim(world, number, client)
            elif rule is Rule.LEASE and world.state == "sending":
                yield claim(world, number, client)
            else:
                told = {"placed": "order"}.get(world.state, "pending")
                yield world.but(number, replace(client, step="done", told=told))
        case "saw nothing":
            yield claim(world, number, client)
        case "holds the attempt":
            yield world.but(number, replace(client, step="waits", request="flying", sends=client.sends + 1))
        case "waits":
            if client.request == "processed":
                yield placed(world, number, client)
            yield from timed_out(world, number, client, rule)


def claim(world: World, number: int, client: Client) -> World:
    return world.but(number, replace(client, step="holds the attempt"), state="sending", owner=number)


def placed(world: World, number: int, client: Client) -> World:
    mine = world.owner == number and world.state in {"sending", "unknown"}
    done = replace(client, step="done", told="order" if mine else "pending")
    return world.but(number, done, state="placed") if mine else world.but(number, done)


def timed_out(world: World, number: int, client: Client, rule: Rule) -> Iterator[World]:
    if rule is Rule.RETRY and client.sends == 1 and client.request != "flying":
        yield world.but(number, replace(client, request="flying", sends=2))
    mine = world.owner == number and world.state == "sending"
    done = replace(client, step="done", told="pending")
    if not mine:
        yield world.but(number, done)
    elif rule is Rule.TIMEOUT_IS_FAILURE:
        yield world.but(number, replace(done, told="failed"), state="rejected", refunded=True)
    else:
        yield world.but(number, done, state="unknown")


def broken(world: World) -> set[str]:
    """Return which promises a state breaks."""
    told = any(client.told == "order" for client in world.clients)
    promises = {"S": world.bought > 1, "R": world.refunded and world.bought > 0, "T": told and not world.bought}
    return {name for name, is_broken in promises.items() if is_broken}


def search(rule: Rule, clients: int) -> tuple[int, set[str]]:
    """Visit every state that can be reached; return how many there are and which promises some of them break."""
    start = World((Client(),) * clients)
    seen, waiting, found = {start}, [start], set[str]()
    while waiting:
        world = waiting.pop()
        found |= broken(world)
        for successor in successors(world, rule):
            if successor not in seen:
                seen.add(successor)
                waiting.append(successor)
    return len(seen), found


@pytest.mark.parametrize("clients", [1, 2, 3])
def test_our_protocol_breaks_nothing(clients: int) -> None:
    states, found = search(Rule.OURS, clients)
    assert not found
    assert states > 10 * clients


@pytest.mark.parametrize(
    ("rule", "expected"),
    [
        (Rule.TIMEOUT_IS_FAILURE, {"R"}),
        (Rule.LEASE, {"S"}),
        (Rule.HASTY, {"R"}),
        (Rule.TWO_STEPS, {"S"}),
        (Rule.RETRY, {"S"}),
    ],
)
def test_the_search_finds_what_is_wrong_with_the_shortcuts(rule: Rule, expected: set[str]) -> None:
    _, found = search(rule, 2)
    assert expected <= found
