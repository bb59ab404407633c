"""The whole way, over real sockets: API Gateway, Lambda, DynamoDB, Secrets Manager, a panel, and back."""

import secrets
from collections.abc import Callable
from typing import Any

import httpx
import pytest

from cli.seed import PANELS
from tests.deployed.conftest import Deployment, SandboxPanel

pytestmark = pytest.mark.deployed
Panels = Callable[[str], SandboxPanel]
SLUGS = [panel.slug for panel in PANELS]


def link() -> str:
    return f"https://instagram.com/p/{secrets.token_hex(8)}"


def quantity(deployment: Deployment, slug: str) -> int:
    service = deployment.parts.catalog.service(slug, 1)
    assert service is not None
    return service.min


def test_health_asks_nobody_and_needs_no_key(deployment: Deployment) -> None:
    reply = httpx.get(f"{deployment.api_url}/health", timeout=30, trust_env=False)
    assert reply.status_code == 200
    assert reply.json()["status"] == "ok"
    assert reply.json()["version"]
    assert reply.headers["X-Request-Id"]


@pytest.mark.parametrize("slug", SLUGS)
def test_v2_for_each_provider(deployment: Deployment, panels: Panels, slug: str) -> None:
    key = deployment.tenant(providers=frozenset({slug}))
    assert deployment.v2(key=key, action="balance").json() == {"balance": "1000", "currency": "USD"}
    services = deployment.v2(key=key, action="services").json()
    service = deployment.service(slug)
    assert service in [row["service"] for row in services]

    target = link()
    added = deployment.v2(key=key, action="add", service=service, link=target, quantity=quantity(deployment, slug))
    assert added.headers["Content-Type"] == "application/json"
    assert list(added.json()) == ["order"], added.text
    assert panels(slug).purchases(target) == 1

    status = deployment.v2(key=key, action="status", order=added.json()["order"]).json()
    assert set(status) == {"charge", "start_count", "status", "remains", "currency"}
    assert all(isinstance(value, str) for value in status.values())
    assert status["status"] in {"Pending", "In progress", "Processing", "Completed"}


@pytest.mark.parametrize("slug", SLUGS)
def test_v3_for_each_provider(deployment: Deployment, panels: Panels, slug: str) -> None:
    key = deployment.tenant(providers=frozenset({slug}))
    service, target, count = deployment.service(slug), link(), quantity(deployment, slug)
    assert deployment.v3(key, action="balance").json() == {"balance": 1000, "currency": "USD"}
    [offer] = [row for row in deployment.v3(key, action="services").json() if row["service"] == service]

    added = deployment.v3(key, action="add", service=service, link=target, quantity=count)
    assert added.status_code == 200, added.text
    assert added.json()["charged"] == pytest.approx(float(offer["rate"]) * count / 1000)
    assert panels(slug).purchases(target) == 1

    status = deployment.v3(key, action="status", order=added.json()["order"]).json()
    assert status["order"] == added.json()["order"]
    assert status["stale"] is False
    assert status["charge"] == added.json()["charged"]


@pytest.mark.parametrize("slug", SLUGS)
def test_the_panel_hears_its_own_dialect_and_its_own_key(deployment: Deployment, panels: Panels, slug: str) -> None:
    key, target = deployment.tenant(providers=frozenset({slug})), link()
    deployment.v3(key, action="add", service=deployment.service(slug), link=target, quantity=quantity(deployment, slug))
    heard = [request for request in panels(slug).requests("add") if secrets_of(target) in str(request)]
    assert key not in str(heard)
    # A container that still held a rotated key is refused first, and asks again with the new one.
    [bought] = [request for request in heard if request["order"]]
    assert f"sandbox-{slug}-key" in str(bought)
    assert bought["method"] == "POST"


def secrets_of(target: str) -> str:
    return target.rpartition("/")[2]


def test_v2_with_a_trailing_slash_and_by_get(deployment: Deployment) -> None:
    key = deployment.tenant()
    slash = httpx.post(f"{deployment.api_url}/v2/", data={"key": key, "action": "balance"}, trust_env=False, timeout=30)
    query = httpx.get(f"{deployment.api_url}/v2", params={"key": key, "action": "balance"}, trust_env=False, timeout=30)
    assert slash.json() == query.json() == {"balance": "1000", "currency": "USD"}
    assert not slash.history


@pytest.mark.usefixtures("panels")
def test_errors_through_the_whole_stack(deployment: Deployment) -> None:
    key = deployment.tenant(credit=0)
    poor = deployment.v3(key, action="add", service=deployment.service("smosale"), link=link(), quantity=100)
    assert (poor.status_code, poor.json()["code"]) == (402, "insufficient_funds")
    assert deployment.v3("nobody", action="balance").status_code == 401
    broken = httpx.post(
        f"{deployment.api_url}/v3",
        content=b"[" * 5000,
        headers={"Content-Type": "application/json", "Authorization": f"Bearer {key}"},
        trust_env=False,
        timeout=30,
    )
    assert (broken.status_code, broken.json()["code"]) == (400, "invalid_request")
    large = httpx.post(
        f"{deployment.api_url}/v3",
        content=b'{"a":"' + b"x" * 300_000 + b'"}',
        headers={"Content-Type": "application/json"},
        trust_env=False,
        timeout=30,
    )
    assert (large.status_code, large.json()["code"]) == (413, "too_large")


def test_what_the_gateway_itself_refuses_is_json_that_a_page_may_read(deployment: Deployment) -> None:
    reply = httpx.get(f"{deployment.api_url}/nowhere", timeout=30, trust_env=False)
    assert reply.status_code in {403, 404}
    assert reply.headers["Access-Control-Allow-Origin"] == "*"
    assert set(reply.json()) == {"error", "code", "request_id"}


def test_a_revoked_key_and_a_suspended_tenant_end_with_the_next_request(deployment: Deployment) -> None:
    issued = deployment.issue()
    assert deployment.v3(issued.key, action="balance").status_code == 200
    deployment.clients.revoke(issued.client.id)
    assert deployment.v3(issued.key, action="balance").status_code == 401


def test_a_preflight_is_granted_to_a_listed_origin(deployment: Deployment) -> None:
    origin = f"https://{secrets.token_hex(6)}.example"
    deployment.tenant(origins=frozenset({origin}))
    headers = {"Origin": origin, "Access-Control-Request-Method": "POST"}
    granted = httpx.options(f"{deployment.api_url}/v3", headers=headers, timeout=30, trust_env=False)
    assert granted.status_code == 204
    assert granted.headers["Access-Control-Allow-Origin"] == origin
    other = {**headers, "Origin": "https://other.example"}
    assert httpx.options(f"{deployment.api_url}/v3", headers=other, timeout=30, trust_env=False).status_code == 403


def test_a_pending_confirmation_is_202_and_is_not_bought_again(deployment: Deployment, panels: Panels) -> None:
    key, target = deployment.tenant(), link()
    panels("smmafrica").fault("pending", action="add", count=1)
    order: dict[str, Any] = {
        "action": "add",
        "service": deployment.service("smmafrica"),
        "link": target,
        "idempotency_key": "k",
    }
    first = deployment.v3(key, **order, quantity=100)
    again = deployment.v3(key, **order, quantity=100)
    assert first.status_code == again.status_code == 202
    assert first.json() == again.json()
    assert again.headers["Idempotent-Replayed"] == "true"
    assert panels("smmafrica").purchases(target) == 1


@pytest.mark.parametrize(
    ("fault", "answered", "bought"),
    [
        ("lost", 202, 1),
        ("reset", 202, 0),
        ("500", 202, 0),
        ("html", 202, 0),
        ("truncated", 202, 1),
        ("bom", 200, 1),
        ("php_notice", 200, 1),
        ("echo_key_ok", 200, 1),
        ("unknown_error", 202, 0),
        ("invalid_key", 503, 0),
        ("no_funds", 503, 0),
        ("redirect", 202, 0),
        ("huge", 202, 1),
    ],
)
def test_each_fault_of_a_panel_has_its_true_answer(
    deployment: Deployment, panels: Panels, fault: str, answered: int, bought: int
) -> None:
    key, target = deployment.tenant(), link()
    panels("smosale").fault(fault, action="add", count=1)
    order: dict[str, Any] = {
        "action": "add",
        "service": deployment.service("smosale"),
        "link": target,
        "idempotency_key": "k",
    }
    first = deployment.v3(key, **order, quantity=100)
    assert first.status_code == answered, first.text
    assert panels("smosale").purchases(target) == bought
    again = deployment.v3(key, **order, quantity=100)
    if answered == 503:
        assert first.headers["Retry-After"]
        assert again.status_code == 200
        assert panels("smosale").purchases(target) == 1
    else:
        assert again.json() == first.json()
        assert panels("smosale").purchases(target) == bought


def test_a_slow_panel_is_answered_for_in_time(deployment: Deployment, panels: Panels) -> None:
    key, target = deployment.tenant(), link()
    panels("smmrich").fault("silent", action="add", count=1, seconds=40)
    reply = deployment.v3(key, action="add", service=deployment.service("smmrich"), link=target, quantity=100)
    assert reply.status_code == 202
    assert reply.elapsed.total_seconds() < 29
    assert panels("smmrich").purchases(target) == 1
    assert deployment.v3(key, action="status", order=reply.json()["order"]).json()["status"] == "pending"
