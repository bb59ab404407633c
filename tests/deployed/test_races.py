"""Many callers at once, from several processes: one purchase a key, and never more than the limit."""

import json
import multiprocessing
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor

import pytest

from tests.deployed.callers import call_at_once
from tests.deployed.conftest import Deployment, SandboxPanel
from tests.deployed.test_way import link

pytestmark = pytest.mark.deployed
PROCESSES, THREADS = 4, 8


def _race(deployment: Deployment, key: str, fields: dict[str, object], calls: int) -> list[tuple[float, int, str]]:
    each = calls // PROCESSES
    with ProcessPoolExecutor(PROCESSES, multiprocessing.get_context("spawn")) as processes:
        parts = processes.map(
            call_at_once,
            [f"{deployment.api_url}/v3"] * PROCESSES,
            [key] * PROCESSES,
            [fields] * PROCESSES,
            [each] * PROCESSES,
            [THREADS] * PROCESSES,
        )
        return [answer for part in parts for answer in part]


@pytest.fixture(scope="module", autouse=True)
def warm(deployment: Deployment) -> None:
    """Start as many Lambdas as will be called at once; on two processors that takes longer than a request may."""
    for _ in range(10):
        answers = _race(deployment, deployment.tenant(), {"action": "balance"}, 2 * PROCESSES * THREADS)
        if {status for _, status, _ in answers} == {200}:
            return
    pytest.fail("the Lambdas did not get warm")


def test_32_callers_with_one_key_make_one_purchase(
    deployment: Deployment, panels: Callable[[str], SandboxPanel]
) -> None:
    key, target = deployment.tenant(), link()
    fields: dict[str, object] = {
        "action": "add",
        "service": deployment.service("smosale"),
        "link": target,
        "quantity": 100,
        "idempotency_key": "one",
    }
    answers = _race(deployment, key, fields, 32)

    assert panels("smosale").purchases(target) == 1
    assert {status for _, status, _ in answers} <= {200, 409}
    orders = {json.loads(body)["order"] for _, status, body in answers if status == 200}
    assert len(orders) == 1
    assert {json.loads(body)["code"] for _, status, body in answers if status == 409} <= {"request_in_progress"}


def test_200_concurrent_requests_stay_within_the_limit(deployment: Deployment) -> None:
    interval, burst = 200_000, 10  # 5/s
    key = deployment.tenant(interval=interval, burst=burst)
    began = time.time()
    answers = _race(deployment, key, {"action": "balance"}, 200)
    took = time.time() - began

    assert {status for _, status, _ in answers} <= {200, 429}
    admitted = sum(status == 200 for _, status, _ in answers)
    assert burst <= admitted <= burst + took * 1_000_000 / interval
    assert admitted < 200, "the limit was not reached: this showed nothing"
