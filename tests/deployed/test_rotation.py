"""Provider keys change under load: no request fails because of it, and nothing is bought twice."""

import secrets
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import httpx
import pytest

from chalicelib.aws.vault import CURRENT
from chalicelib.model import Account, Funding
from tests import tally
from tests.deployed.conftest import Deployment, SandboxPanel, eventually
from tests.deployed.test_journal import Operator
from tests.deployed.test_journal import operator as operator  # noqa: PLC0414 - a fixture
from tests.deployed.test_way import link, quantity

pytestmark = pytest.mark.deployed
SLUG = "smosale"
RATE = 50
"""Requests a second."""
CALLERS = 12
ADD_EVERY = 5
"""One request in so many buys; the others ask the panel for its balance. All of them need the provider key."""
Panels = Callable[[str], SandboxPanel]
ROUNDS = 6
"""So often it may begin anew before the containers are warm."""


@dataclass
class Traffic:
    """Steady calls of several callers, each with its time to begin."""

    deployment: Deployment
    buyer: str
    reader: str
    order: dict[str, Any]
    rate: int = RATE
    answers: list[tuple[str, str, int, httpx.Response]] = field(default_factory=list)
    _ended: threading.Event = field(default_factory=threading.Event)
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _next: int = 0

    def run(self, act: Callable[[], None]) -> float:
        """Call until ``act`` is done, and return how many seconds that took."""
        began = time.monotonic()
        with ThreadPoolExecutor(CALLERS) as threads:
            callers = [threads.submit(self._call_on, began) for _ in range(CALLERS)]
            try:
                act()
            finally:
                self._ended.set()
            for caller in callers:
                caller.result()
        return time.monotonic() - began

    def _call_on(self, began: float) -> None:
        with httpx.Client(timeout=40, trust_env=False) as client:
            while not self._ended.is_set():
                with self._lock:
                    number, self._next = self._next, self._next + 1
                time.sleep(max(0.0, began + number / self.rate - time.monotonic()))
                self.call(client, number)

    def call(self, client: httpx.Client, number: int) -> None:
        target = link()
        is_purchase = number % ADD_EVERY == 0
        key, fields = (
            (self.buyer, {"action": "add", "link": target, **self.order})
            if is_purchase
            else (self.reader, {"action": "balance"})
        )
        headers = (
            {"Authorization": f"Bearer {key}", "Idempotency-Key": target}
            if is_purchase
            else {"Authorization": f"Bearer {key}"}
        )
        began = time.monotonic()
        reply = client.post(f"{self.deployment.api_url}/v3", json=fields, headers=headers)
        taken = round((time.monotonic() - began) * 1000)
        with self._lock:
            self.answers.append((fields["action"], target, taken, reply))

    def failures(self) -> list[str]:
        return [
            f"{action} {reply.status_code} {reply.text}" for action, _, _, reply in self.answers if not reply.is_success
        ]

    def bought(self) -> list[tuple[str, int]]:
        """Return the links that were ordered, each with our number of the order."""
        return [
            (target, reply.json()["order"])
            for action, target, _, reply in self.answers
            if action == "add" and reply.is_success
        ]


def new_key() -> str:
    return f"rotated-{secrets.token_hex(12)}"


@dataclass
class Keys:
    """Our account's keys at the panel, and ours of it."""

    deployment: Deployment
    panel: SandboxPanel
    operator: Operator
    current: str = f"sandbox-{SLUG}-key"

    def allow(self, *keys: str) -> None:
        """Have the panel take these keys, and no others."""
        self.panel.admin("PUT", "keys", {"keys": list(keys)})

    def in_use(self) -> str:
        vault, account = self.deployment.parts.vault, Account(SLUG)
        return next(version for version, labels in vault.labels(account).items() if CURRENT in labels)

    def change(self, *command: str, key: str = "", only: str) -> Any:
        """Run a command that changes the key; when another one is in use, the panel takes ``only`` that at once."""
        before = self.in_use()
        process = self.operator.start(*command, stdin=subprocess.PIPE)
        assert process.stdin is not None
        process.stdin.write(f"{key}\n")
        process.stdin.close()
        process.stdin = None
        changed = eventually(lambda: self.in_use() != before or process.poll() is not None, 60)
        if changed and self.in_use() != before:
            self.allow(only)
        out, err = process.communicate(timeout=120)
        assert process.returncode == 0, f"{out} {err}"
        self.current = only
        return out

    def rotate(self, key: str) -> None:
        self.change("keys", "rotate", SLUG, "--watch", "5s", key=key, only=key)


@pytest.fixture
def keys(deployment: Deployment, panels: Panels, operator: Operator) -> Iterator[Keys]:
    found = Keys(deployment, panels(SLUG), operator)
    yield found
    last = f"sandbox-{SLUG}-key"
    found.allow(found.current, last)
    if found.current != last:
        found.rotate(last)
    found.allow(last)


@pytest.fixture
def traffic(deployment: Deployment, keys: Keys) -> Traffic:
    keys.allow(keys.current)
    buyer = deployment.tenant(providers=frozenset({SLUG}))
    reader = deployment.tenant(providers=frozenset({SLUG}), funding=Funding.PROVIDER, credit=0)
    order = {"service": deployment.service(SLUG), "quantity": quantity(deployment, SLUG)}
    found = Traffic(deployment, buyer, reader, order)
    for _ in range(ROUNDS):  # until the containers are started, and have the key that is going to change
        found = Traffic(deployment, buyer, reader, order)
        found.run(lambda: time.sleep(6))
        if not found.failures():
            return Traffic(deployment, buyer, reader, order)
    pytest.fail(f"not even without a rotation it goes well: {found.failures()[:3]}")


def purchases(panel: SandboxPanel) -> Counter[str]:
    """Count the panel's orders by their links."""
    return Counter(row["link"] for row in panel.admin("GET", "orders"))


def versions(deployment: Deployment, traffic: Traffic) -> Counter[str]:
    """Count the orders by the version of the key that they were sent with."""
    tenant = traffic.buyer.split("_")[2]
    ordered = {number for _, number in traffic.bought()}
    return Counter(one.attempt.key_version for one in deployment.parts.orders.page(tenant) if one.id in ordered)


def test_three_rotations_and_a_rollback_fail_no_request(
    deployment: Deployment, keys: Keys, traffic: Traffic, request: pytest.FixtureRequest
) -> None:
    """The old key works until the promotion, and not a moment longer than the test can help."""
    changes: list[str] = []

    def change() -> None:
        time.sleep(2)
        before = keys.current
        for number in (1, 2, 3):
            new, before = new_key(), keys.current
            keys.allow(before, new)
            keys.rotate(new)
            changes.append(f"rotation {number}")
            time.sleep(1)
        keys.allow(before, keys.current)
        keys.change("keys", "rollback", SLUG, only=before)
        changes.append("rollback")
        time.sleep(2)

    seconds = traffic.run(change)
    failures, bought = traffic.failures(), traffic.bought()
    at_panel, used = purchases(keys.panel), versions(deployment, traffic)
    doubled = [target for target, _ in bought if at_panel[target] != 1]
    times = sorted(taken for _, _, taken, _ in traffic.answers)
    told = [
        f"{len(traffic.answers):,} requests in {seconds:.0f} s ({len(traffic.answers) / seconds:.0f}/s)",
        *changes,
        f"{len(failures)} failed",
        f"{len(bought):,} orders with {len(used)} key versions",
        f"{len(doubled)} not bought once",
        f"median {times[len(times) // 2]} ms",
        f"slowest {times[-1]} ms",
    ]
    request.node.user_properties.append((tally.ROTATION, ", ".join(told)))
    assert not failures, failures[:5]
    assert not doubled
    assert changes == ["rotation 1", "rotation 2", "rotation 3", "rollback"]
    assert len(used) >= 4, "not every key was ordered with: this showed nothing"
    ordered = {target for action, target, _, _ in traffic.answers if action == "add"}
    assert not [target for target, count in at_panel.items() if target in ordered and count > 1]


def test_an_old_key_that_dies_before_the_promotion_means_503_until_then_and_buys_nothing_twice(
    keys: Keys, traffic: Traffic, request: pytest.FixtureRequest
) -> None:
    """Some panels kill the old key when they make a new one. What was refused is asked again, with the same key."""
    traffic.rate = 10
    new = new_key()

    def change() -> None:
        time.sleep(1)
        keys.allow(new)
        time.sleep(3)
        keys.rotate(new)
        time.sleep(2)

    traffic.run(change)
    refused = [(action, target, reply) for action, target, _, reply in traffic.answers if not reply.is_success]
    assert refused, "the dead key was never met: this showed nothing"
    for _, _, reply in refused:
        assert reply.status_code == 503, reply.text
        assert reply.json()["code"] == "service_unavailable"
        assert int(reply.headers["Retry-After"]) > 0
    retried = [target for action, target, _ in refused if action == "add"]
    for target in retried:
        headers = {"Idempotency-Key": target}
        assert traffic.deployment.v3(
            traffic.buyer, headers=headers, action="add", link=target, **traffic.order
        ).is_success
    at_panel = purchases(keys.panel)
    ordered = {target for action, target, _, _ in traffic.answers if action == "add"}
    assert {at_panel[target] for target in ordered} == {1}
    last = [reply.status_code for _, _, _, reply in traffic.answers[-5:]]
    assert last == [200] * 5
    told = f"old key dead before the promotion: {len(refused)} of {len(traffic.answers)} answered 503 with Retry-After"
    request.node.user_properties.append(
        (tally.ROTATION, f"{told}, {len(ordered)} orders, each bought once ({len(retried)} asked for again)")
    )
