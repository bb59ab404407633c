"""The tenant's limit: exactly burst + rate × time, over all containers."""

import multiprocessing
import time
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from dataclasses import replace
from functools import partial

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from chalicelib.aws.registry import Registry
from chalicelib.clock import HOUR, SECOND
from chalicelib.keys import parse_client_key
from chalicelib.model import Tenant
from chalicelib.ports import Admitted, Suspended, Throttled
from chalicelib.settings import Settings
from chalicelib.wiring import SYSTEM_CLOCK, assemble
from tests.api.http import container
from tests.conftest import aws_client
from tests.stage import MovableClock
from tests.world import PretendPanel, World

INTERVAL, BURST = 20_000, 10  # 50/s


def _hammer(endpoint: str, stage: str, key_text: str, calls: int) -> list[int]:
    """Ask for admission from eight threads of a container of its own; return when it was granted, in µs."""
    parts = assemble(
        Settings(stage),
        aws_client("dynamodb", endpoint),
        aws_client("secretsmanager", endpoint),
        PretendPanel(),
        SYSTEM_CLOCK,
    )
    key = parse_client_key(key_text)
    assert key is not None

    def call(_: int) -> int | None:
        now = SYSTEM_CLOCK.now()
        return now if isinstance(parts.directory.admit(key, now=now), Admitted) else None

    with ThreadPoolExecutor(8) as threads:
        return [at for at in threads.map(call, range(calls)) if at is not None]


def test_200_concurrent_requests_never_pass_burst_and_rate(world: World, emulator: str) -> None:
    key = world.add_tenant(Tenant(id="busy", interval=INTERVAL, burst=BURST))
    stage = world.parts.settings.stage
    with ProcessPoolExecutor(4, multiprocessing.get_context("spawn")) as processes:
        granted = sorted(
            at for part in processes.map(_hammer, [emulator] * 4, [stage] * 4, [key] * 4, [50] * 4) for at in part
        )

    assert len(granted) >= BURST, "the burst was there to be had"
    for first in range(len(granted)):
        for last in range(first, len(granted)):
            window = granted[last] - granted[first]
            assert last - first + 1 <= BURST + window / INTERVAL, "more were let in than the limit has"


@settings(max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    interval=st.sampled_from([1, 1000, 333_333, SECOND]),
    burst=st.integers(1, 5),
    gaps=st.lists(st.integers(0, 2 * SECOND), min_size=1, max_size=12),
)
def test_the_limit_is_the_textbooks(world: World, interval: int, burst: int, gaps: list[int]) -> None:
    name = f"t{time.monotonic_ns()}"
    key = parse_client_key(world.add_tenant(Tenant(id=name, interval=interval, burst=burst), credit=0))
    assert key is not None
    full_at = world.time.at
    for gap in gaps:
        world.time.at += gap
        now = world.time.at
        admission = world.parts.directory.admit(key, now=now)
        fits = max(full_at, now) + interval - now <= burst * interval
        assert isinstance(admission, Admitted) is fits
        if fits:
            full_at = max(full_at, now) + interval
            assert isinstance(admission, Admitted)
            assert admission.quota.reset == full_at - now
            assert admission.quota.remaining == (burst * interval - (full_at - now)) // interval
        else:
            assert isinstance(admission, Throttled)
            assert admission.retry_at == full_at - (burst - 1) * interval


def test_a_new_limit_holds_at_once_and_lends_no_second_burst(world: World) -> None:
    for _ in range(20):
        world.session()
    world.registry.change_tenant("acme", partial(replace, interval=SECOND, burst=5))
    key = parse_client_key(world.key)
    assert key is not None
    assert isinstance(world.parts.directory.admit(key, now=world.time.at), Throttled)
    world.time.sleep(1)
    assert isinstance(world.parts.directory.admit(key, now=world.time.at), Admitted)
    assert isinstance(world.parts.directory.admit(key, now=world.time.at), Throttled)


def admitted(world: World, *, tries: int) -> int:
    """Return how many of so many requests are admitted now."""
    key = parse_client_key(world.key)
    assert key is not None
    admissions = [world.parts.directory.admit(key, now=world.time.at) for _ in range(tries)]
    return sum(isinstance(admission, Admitted) for admission in admissions)


@pytest.mark.parametrize("off", [-HOUR, HOUR])
def test_an_operators_clock_that_is_wrong_neither_locks_a_tenant_out_nor_lends_it_a_burst(
    world: World, off: int
) -> None:
    registry = Registry(world.twin(clock=MovableClock(world.time.at + off).clock).table)
    assert admitted(world, tries=21) == 20
    registry.change_tenant("acme", partial(replace, interval=SECOND, burst=5))
    assert admitted(world, tries=1) == 0
    world.time.at += 3 * SECOND  # the old bucket would be full after two
    assert 1 <= admitted(world, tries=5) <= 3


def test_who_has_not_called_for_long_may_spend_a_changed_limit_at_once(world: World) -> None:
    world.registry.change_tenant("acme", partial(replace, burst=30))
    assert admitted(world, tries=31) == 30


RATES = st.tuples(st.sampled_from([1000, 333_333, SECOND]), st.integers(1, 5))


@settings(max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(rates=st.lists(RATES, min_size=2, max_size=4), gaps=st.lists(st.integers(0, 3 * SECOND), max_size=3))
def test_changed_limits_admit_no_more_than_they_allow_together(
    world: World, rates: list[tuple[int, int]], gaps: list[int]
) -> None:
    """In no window more than the largest burst, and for each moment what the limit gives that held then."""
    world.key = world.add_tenant(Tenant(id=f"t{time.monotonic_ns()}", interval=rates[0][0], burst=rates[0][1]))
    tenant = world.key.split("_")[2]
    earned, calls = 0.0, []
    for interval, burst in rates:
        world.registry.change_tenant(tenant, partial(replace, interval=interval, burst=burst))
        for gap in [*gaps, 0]:
            calls += [earned] * admitted(world, tries=burst + 1)
            world.time.at += gap
            earned += gap / interval
    most = max(burst for _, burst in rates)
    for first in range(len(calls)):
        for last in range(first, len(calls)):
            assert last - first + 1 <= most + calls[last] - calls[first] + 1e-6


def test_a_refused_key_costs_the_tenant_nothing(world: World) -> None:
    wrong = parse_client_key(world.add_tenant(Tenant(id="other")))
    assert wrong is not None
    stolen = replace(wrong, tenant="acme")
    for _ in range(30):
        assert not isinstance(world.parts.directory.admit(stolen, now=world.time.at), Admitted | Throttled | Suspended)
    assert world.session().quota.remaining == 19


@pytest.mark.parametrize("calls", [1, 5])
def test_an_admission_takes_one_round_trip(world: World, calls: int) -> None:
    fresh, asked = container(world)
    fresh.session()
    asked.calls.clear()
    for _ in range(calls):
        fresh.session()
    assert len(asked.calls) <= calls + 1, "only the turn of the window costs a second one"
