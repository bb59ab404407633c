"""Every I/O call of every run that touches an order or its money, each failing in every way.

One run without faults counts a scenario's calls; then each of them meets each fault, on its own and with all calls
after it. When everything has come to rest, the panel's own count, the wallet and the records must agree. ``make test``
runs a sample, ``make test-faults`` all of it.
"""

import os
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import pytest

from tests.faults import ONCE, Fault, Wire, faults_of
from tests.scenarios import FOR_EVER, SCENARIOS, Scenario
from tests.stall import Stall
from tests.tally import record


@dataclass(frozen=True)
class Case:
    """One fault at one call of one scenario, once or for ever."""

    scenario: Scenario
    at: int
    fault: Fault
    times: int

    def __str__(self) -> str:
        call = self.scenario.calls.split()[self.at]
        return f"{self.scenario.name}-{self.at}-{call}-{self.fault.__name__}-{'once' if self.times == 1 else 'on'}"


def _cases_of(scenario: Scenario, at: int) -> list[Case]:
    faults = faults_of(scenario.calls.split()[at])
    once = [Case(scenario, at, fault, 1) for fault in faults]
    return once + [Case(scenario, at, fault, FOR_EVER) for fault in faults if fault not in ONCE]


ROWS = [_cases_of(scenario, at) for scenario in SCENARIOS for at in range(len(scenario.calls.split()))]
WHOLE = [case for row in ROWS for case in row]


def _sample() -> Iterator[Case]:
    """Yield one case of every call: of its faults the one that was met least so far."""
    met = Counter[tuple[Fault, int]]()
    for row in ROWS:
        case = min(row, key=lambda case: met[case.fault, case.times])
        met[case.fault, case.times] += 1
        yield case


SAMPLE = list(_sample())
CASES = WHOLE if os.environ.get("PANELGATE_FAULTS") == "all" else SAMPLE


def test_the_sample_has_every_call_and_every_fault() -> None:
    assert {(case.scenario.name, case.at) for case in SAMPLE} == {(case.scenario.name, case.at) for case in WHOLE}
    assert {(case.fault, case.times) for case in SAMPLE} == {(case.fault, case.times) for case in WHOLE}


@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda scenario: scenario.name)
def test_the_calls_of_a_scenario(new_stall: Callable[..., Stall], scenario: Scenario) -> None:
    stall = new_stall(scenario.slug)
    scenario.prepare(stall)
    wire = Wire(stall)
    scenario.run(stall, wire)
    assert " ".join(wire.names) == scenario.calls


@pytest.mark.parametrize("case", CASES, ids=str)
def test_no_fault_buys_twice_or_loses_an_order_or_money(
    new_stall: Callable[..., Stall], request: pytest.FixtureRequest, case: Case
) -> None:
    stall = new_stall(case.scenario.slug)
    case.scenario.prepare(stall)
    case.scenario.run(stall, Wire(stall, case.fault, case.at, case.times))
    stall.settle_down()
    verdicts = [stall.judge()]
    if case.scenario.is_asked_again:
        case.scenario.repeat(stall)
        stall.settle_down(1)
        verdicts.append(stall.judge())
    record(request.node, len(WHOLE), verdicts)
    assert all(verdict.is_good for verdict in verdicts), verdicts
    assert not stall.unsettled(), "there was evidence, or the operator has decided"
