"""The whole protocol over the whole stack: types, batches over several panels, refills, cancellations, lists."""

import re
import secrets
from typing import Any
from urllib.parse import unquote

import httpx
import pytest

from chalicelib.keys import parse_client_key
from cli.seed import PANELS
from tests.deployed.conftest import Deployment, eventually
from tests.deployed.test_way import Panels, link, quantity

pytestmark = pytest.mark.deployed


def by_type(deployment: Deployment, key: str, kind: str) -> int:
    """Return the public id of smosale's service of a type."""
    number = deployment.registry.provider("smosale").number
    rows = deployment.v2(key=key, action="services").json()
    return int(next(row["service"] for row in rows if row["type"] == kind and row["service"] % 1000 == number))


def test_one_batch_over_all_five_panels(deployment: Deployment, panels: Panels) -> None:
    key = deployment.tenant()
    orders = []
    for panel in PANELS:
        fields = {
            "service": deployment.service(panel.slug),
            "link": link(),
            "quantity": quantity(deployment, panel.slug),
        }
        orders.append(deployment.v2(key=key, action="add", **fields).json()["order"])
    numbers = {panel.slug: _number(deployment, key, order) for panel, order in zip(PANELS, orders, strict=True)}
    before = {slug: _times_asked(panels, slug, number) for slug, number in numbers.items()}
    rows = deployment.v3(key, action="status", orders=[*orders, 7]).json()["orders"]
    assert [row["order"] for row in rows] == [*orders, 7]
    assert not any(row["stale"] for row in rows[:-1]), rows
    assert rows[-1]["code"] == "order_not_found"
    for slug, number in numbers.items():
        assert _times_asked(panels, slug, number) == before[slug] + 1

    answer = deployment.v2(key=key, action="status", orders=",".join(map(str, orders)))
    assert answer.headers["Content-Type"] == "application/json"
    assert [int(number) for number in answer.json()] == orders


def _number(deployment: Deployment, key: str, order: int) -> int:
    """Return the panel's own number of an order of ours."""
    parsed = parse_client_key(key)
    found = parsed and deployment.parts.orders.get(parsed.tenant, order)
    assert found
    assert found.provider_order
    return found.provider_order


def _times_asked(panels: Panels, slug: str, number: int) -> int:
    """Count the calls that asked for an order with a key that the panel takes.

    Jobs ask for other orders meanwhile, and a container that still holds a rotated key asks in vain first.
    """
    asked = (unquote(row["body"]) for row in panels(slug).requests("status"))
    return sum(f"sandbox-{slug}-key" in body and str(number) in re.findall(r"\d+", body) for body in asked)


@pytest.mark.usefixtures("panels")
def test_66_kb_of_comments_in_every_encoding(deployment: Deployment) -> None:
    key = deployment.tenant()
    comments = "\r\n".join(f"{number} so very, very good 👍🏽🔥 très bien" for number in range(1500))
    assert len(comments.encode()) > 66_000
    fields = {
        "key": key,
        "action": "add",
        "service": str(by_type(deployment, key, "Custom Comments")),
        "comments": comments,
    }
    url = f"{deployment.api_url}/v2/"
    for encoding in ("data", "json", "files"):
        sent: Any = {**fields, "link": link()}
        if encoding == "files":
            sent = {name: (None, text) for name, text in sent.items()}
        how: dict[str, Any] = {encoding: sent}
        reply = httpx.post(url, timeout=40, trust_env=False, **how)
        assert list(reply.json()) == ["order"], (encoding, reply.text)


@pytest.mark.usefixtures("panels")
def test_a_package_and_a_subscription(deployment: Deployment) -> None:
    key = deployment.tenant()
    package = deployment.v3(key, action="add", service=by_type(deployment, key, "Package"), link=link())
    assert (package.status_code, package.json()["charged"]) == (200, 4.5)
    name = f"user{secrets.token_hex(4)}"
    fields: dict[str, Any] = {"username": name, "min": 10, "max": 20, "delay": 0, "posts": 2}
    placed = deployment.v3(key, action="add", service=by_type(deployment, key, "Subscriptions"), **fields)
    assert placed.json()["charged"] == 0.014
    status = deployment.v2(key=key, action="status", order=placed.json()["order"]).json()
    assert set(status) == {"status", "expiry", "posts", "orders"}
    assert status["status"] == "Active"


def test_a_cancellation_shows_in_the_status(deployment: Deployment, panels: Panels) -> None:
    key, target = deployment.tenant(), link()
    order = deployment.v2(
        key=key, action="add", service=deployment.service("smosale"), link=target, quantity=100
    ).json()["order"]
    assert deployment.v2(key=key, action="cancel", order=order).json() == [{"order": order, "cancel": 1}]
    assert deployment.v3(key, action="cancel", order=order).json()["success"] == "Cancellation request accepted."
    assert len(panels("smosale").requests("cancel")) >= 2

    def canceled() -> bool:
        return bool(deployment.v3(key, action="status", order=order).json()["status"] == "canceled")

    assert eventually(canceled, 40)
    assert deployment.v3(key, action="status", order=order).json()["charge"] == 0
    assert deployment.v2(key=key, action="balance").json() == {"balance": "1000", "currency": "USD"}


@pytest.mark.usefixtures("panels")
def test_orders_are_listed_through_the_index(deployment: Deployment) -> None:
    key = deployment.tenant()
    fields: dict[str, Any] = {"service": deployment.service("smosale"), "quantity": 100}
    orders = [deployment.v3(key, action="add", link=link(), **fields).json()["order"] for _ in range(3)]
    assert eventually(lambda: len(deployment.v3(key, action="orders").json()["orders"]) == len(orders))
    page = deployment.v3(key, action="orders", limit=2).json()
    assert [row["order"] for row in page["orders"]] == orders[:0:-1]
    rest = deployment.v3(key, action="orders", limit=2, cursor=page["next"]).json()
    assert ([row["order"] for row in rest["orders"]], rest["next"]) == (orders[:1], None)
