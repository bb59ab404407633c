"""Client keys of the deployed system: what an operator does to one holds for the next request in every container."""

import json
import secrets
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from chalicelib.aws.guesses import BURST
from chalicelib.clock import HOUR, MINUTE, SECOND
from chalicelib.keys import new_client_key
from chalicelib.testmode import ENDS, PROVIDER, SETTLED_AFTER, Offer
from tests.deployed.conftest import Deployment, SandboxPanel
from tests.deployed.test_way import link

pytestmark = pytest.mark.deployed
CALLERS, CALLS = 4, 16


def statuses(deployment: Deployment, key: str) -> Counter[int]:
    """Return how many of many requests at once had which status; they meet several containers."""
    with ThreadPoolExecutor(CALLERS) as threads:
        answers = threads.map(lambda _: deployment.v3(key, action="balance").status_code, range(CALLS))
        return Counter(answers)


def test_a_revocation_and_a_suspension_hold_for_the_next_request_in_every_warm_container(
    deployment: Deployment,
) -> None:
    issued = deployment.issue()
    tenant, registry = issued.client.tenant, deployment.registry
    other = deployment.clients.create(tenant).key
    statuses(deployment, issued.key)  # the containers start
    assert statuses(deployment, issued.key) == {200: CALLS}
    registry.set_active(tenant, active=False)
    assert statuses(deployment, issued.key) == {403: CALLS}
    registry.set_active(tenant, active=True)
    assert statuses(deployment, issued.key) == {200: CALLS}
    deployment.clients.revoke(issued.client.id)
    assert statuses(deployment, issued.key) == {401: CALLS}
    assert statuses(deployment, other) == {200: CALLS}


def test_a_rotated_key_works_for_its_overlap_and_not_longer(deployment: Deployment) -> None:
    first = deployment.issue()
    statuses(deployment, first.key)  # the containers start
    second = deployment.clients.rotate(first.client.id, overlap=HOUR)
    assert [statuses(deployment, one.key) for one in (first, second)] == [{200: CALLS}] * 2
    third = deployment.clients.rotate(first.client.id, overlap=0)
    assert [statuses(deployment, one.key) for one in (first, second)] == [{401: CALLS}] * 2
    fourth = deployment.clients.rotate(first.client.id, overlap=2 * SECOND)
    time.sleep(2.5)
    assert statuses(deployment, third.key) == {401: CALLS}
    assert statuses(deployment, fourth.key) == {200: CALLS}
    [client] = deployment.clients.of(first.client.tenant)
    assert client.used is not None
    assert abs(client.used - time.time() * SECOND) < MINUTE


def test_test_keys_buy_nothing(deployment: Deployment, panels: Callable[[str], SandboxPanel]) -> None:
    asked = {slug: len(panels(slug).requests("add")) for slug in ("smosale", "smmrich")}
    tenant = deployment.issue().client.tenant
    key = deployment.clients.create(tenant, test=True).key
    order: Any = {"service": Offer.DELIVERED * 1000, "link": link(), "quantity": 100}
    bought = deployment.v3(key, {"Idempotency-Key": "k"}, action="add", **order)
    assert bought.status_code == 200, bought.text
    assert deployment.v3(key, {"Idempotency-Key": "k"}, action="add", **order).json() == bought.json()
    lost = deployment.v3(key, action="add", **{**order, "service": Offer.LOST * 1000})
    assert lost.status_code == 202, lost.text
    refused = deployment.v3(key, action="add", **{**order, "service": Offer.BAD_LINK * 1000})
    assert refused.json()["code"] == "invalid_link"
    time.sleep(max(ENDS, SETTLED_AFTER // SECOND) + 1)
    deployment.run_job("settle_orders")
    numbers = [answer.json()["order"] for answer in (bought, lost)]
    told = deployment.v3(key, action="status", orders=numbers).json()["orders"]
    assert [row["status"] for row in told] == ["completed", "canceled"]
    assert deployment.parts.wallet.available(tenant) == 1000 * SECOND
    assert list(deployment.parts.test_orders.unsettled(PROVIDER.account)) == []
    assert {slug: len(panels(slug).requests("add")) for slug in asked} == asked


def from_address(deployment: Deployment, address: str, key: str) -> int:
    """Return the status of a call as API Gateway would pass it on from an address; the emulator knows only its own."""
    functions: Any = deployment.aws.session.client("lambda", endpoint_url=deployment.aws.endpoint)
    names = [item["FunctionName"] for item in functions.list_functions()["Functions"]]
    [function] = [name for name in names if "apihandler" in name.lower()]
    headers = {"Content-Type": ["application/json"], "Authorization": [f"Bearer {key}"]}
    event = {
        "resource": "/v3",
        "path": "/v3",
        "httpMethod": "POST",
        "headers": {name: values[0] for name, values in headers.items()},
        "multiValueHeaders": headers,
        "multiValueQueryStringParameters": None,
        "pathParameters": None,
        "stageVariables": None,
        "body": json.dumps({"action": "balance"}),
        "isBase64Encoded": False,
        "requestContext": {
            "resourcePath": "/v3",
            "path": "/api/v3",
            "httpMethod": "POST",
            "requestId": "test",
            "requestTimeEpoch": int(time.time() * 1000),
            "identity": {"sourceIp": address},
        },
    }
    reply = functions.invoke(FunctionName=function, Payload=json.dumps(event).encode())
    return int(json.loads(reply["Payload"].read())["statusCode"])


def test_an_address_that_tries_out_keys_is_barred_and_no_other(deployment: Deployment) -> None:
    issued = deployment.issue()
    tenant, address = issued.client.tenant, f"198.51.100.{secrets.randbelow(256)}"
    assert {from_address(deployment, address, "pg_live_junk") for _ in range(2 * BURST)} == {401}
    answers = [from_address(deployment, address, new_client_key(tenant)) for _ in range(BURST + 1)]
    assert answers[:BURST] == [401] * BURST
    assert answers[BURST:] == [429]
    assert from_address(deployment, "203.0.113.7", issued.key) == 200
