from collections.abc import Callable, Iterator

import httpx
import pytest

from sandbox.server import Sandbox
from tests.sandbox.callers import TEMPLATE_PANELS, Caller, FakeClock

Calling = Callable[[str], Caller]


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def sandbox(clock: FakeClock) -> Iterator[Sandbox]:
    with Sandbox(clock=clock, rate_limits=False) as running:
        yield running


@pytest.fixture(scope="session")
def http() -> Iterator[httpx.Client]:
    with httpx.Client(trust_env=False, timeout=10) as client:
        yield client


@pytest.fixture
def calling(sandbox: Sandbox, http: httpx.Client) -> Calling:
    return lambda slug: Caller(slug, http, sandbox)


@pytest.fixture
def smosale(calling: Calling) -> Caller:
    return calling("smosale")


@pytest.fixture
def mysticsmm(calling: Calling) -> Caller:
    return calling("mysticsmm")


@pytest.fixture
def smmafrica(calling: Calling) -> Caller:
    return calling("smmafrica")


@pytest.fixture(params=TEMPLATE_PANELS)
def template(request: pytest.FixtureRequest, calling: Calling) -> Caller:
    return calling(request.param)
