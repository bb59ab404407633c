"""The classic protocol, as its clients see it."""

import json
import logging
from typing import Any

import pytest

from chalicelib.model import Ids, Tenant
from tests.api.http import FORM, v2
from tests.world import LINK, World, loses_the_request, says

ADD = {"action": "add", "service": "1001", "link": LINK, "quantity": "100"}


def test_balance_is_text(world: World) -> None:
    assert v2(world, {"action": "balance"}).text == '{"balance":"100","currency":"USD"}'
    v2(world, ADD)
    assert v2(world, {"action": "balance"}).json == {"balance": "99.91", "currency": "USD"}


def test_services_have_the_types_of_the_protocol(world: World) -> None:
    services = v2(world, {"action": "services"}).json

    assert services[0] == {
        "service": 1001,
        "name": "Followers",
        "type": "Default",
        "category": "First Category",
        "rate": "0.9",
        "min": "50",
        "max": "10000",
        "refill": True,
        "cancel": True,
        "dripfeed": True,
    }
    assert [service["service"] for service in services] == [1001, 2001]


def test_an_order_and_its_status(world: World) -> None:
    added = v2(world, ADD)
    assert list(added.json) == ["order"]
    assert isinstance(added.json["order"], int)
    assert 10**6 <= added.json["order"] < 2**31

    assert v2(world, {"action": "status", "order": str(added.json["order"])}).json == {
        "charge": "0.09",
        "start_count": "10",
        "status": "In progress",
        "remains": "100",
        "currency": "USD",
    }


def test_an_unknown_outcome_is_an_order_that_is_pending(world: World) -> None:
    world.panel.behaviours["add"] = loses_the_request
    order = v2(world, ADD).json["order"]
    status = v2(world, {"action": "status", "order": order}).json
    assert status == {"charge": "0.09", "start_count": "0", "status": "Pending", "remains": "100", "currency": "USD"}


@pytest.mark.parametrize(
    ("said", "shown"),
    [
        ("Pending", "Pending"),
        ("IN_PROGRESS", "In progress"),
        ("processing", "Processing"),
        ("Completed", "Completed"),
        ("Partial", "Partial"),
        ("CANCELLED", "Canceled"),
        ("Refunded", "Refunded"),
        ("Fail", "Canceled"),
        ("Quux", "Pending"),
    ],
)
def test_only_the_protocols_statuses_are_shown(world: World, said: str, shown: str) -> None:
    order = v2(world, ADD).json["order"]
    world.panel.behaviours["status"] = says({"status": said, "charge": "0.9", "start_count": "0", "remains": "0"})
    assert v2(world, {"action": "status", "order": order}).json["status"] == shown


def test_every_answer_is_200_json_without_charset_and_with_a_request_id(world: World) -> None:
    for answer in (v2(world, {"action": "balance"}), v2(world, ADD), v2(world, {"action": "nonsense"})):
        assert answer.status == 200
        assert answer.headers["Content-Type"] == "application/json"
        assert answer.headers["X-Request-Id"]
        assert answer.headers["RateLimit-Policy"] == '"default";q=20;w=2'


def test_the_limits_headers_count_down(world: World) -> None:
    headers = v2(world, {"action": "balance"}).headers
    assert headers["RateLimit"] == '"default";r=19;t=1'


def test_the_tenants_limit_is_the_one_429(world: World) -> None:
    answers = [v2(world, {"action": "balance"}) for _ in range(21)]
    assert [answer.status for answer in answers] == [200] * 20 + [429]
    assert answers[-1].json == {"error": "Too many requests"}
    assert answers[-1].headers["Retry-After"] == "1"
    assert answers[-1].headers["RateLimit"] == '"default";r=0;t=2'


@pytest.mark.parametrize(
    ("fields", "sentence"),
    [
        ({}, "Incorrect request"),
        ({"action": "nonsense"}, "Incorrect action"),
        ({"action": "refill", "order": "1"}, "Incorrect order ID"),
        ({**ADD, "service": "7"}, "Incorrect service ID"),
        ({**ADD, "service": "x"}, "Incorrect request"),
        ({**ADD, "link": ""}, "Incorrect link"),
        ({**ADD, "link": "javascript:alert(1)"}, "Incorrect link"),
        ({**ADD, "link": "https://x y"}, "Incorrect link"),
        ({**ADD, "quantity": ""}, "Incorrect request"),
        ({**ADD, "quantity": "many"}, "Incorrect quantity"),
        ({**ADD, "quantity": "-5"}, "Incorrect quantity"),
        ({**ADD, "quantity": "10"}, "Quantity less than minimal 50"),
        ({**ADD, "quantity": "10001"}, "Quantity more than maximum 10000"),
        ({**ADD, "runs": "2"}, "Incorrect request"),
        ({"action": "status", "order": "1000001"}, "Incorrect order ID"),
        ({"action": "status"}, "Incorrect request"),
        ({"action": "balance", "key": "nobody"}, "Invalid API key"),
        ({"action": "balance", "key": ""}, "Invalid API key"),
    ],
)
def test_an_error_is_200_and_its_only_key_is_error(world: World, fields: dict[str, str], sentence: str) -> None:
    answer = v2(world, fields)
    assert (answer.status, answer.json) == (200, {"error": sentence})
    assert not world.panel.requests


def test_no_money_has_the_protocols_sentence(world: World) -> None:
    poor = world.add_tenant(Tenant(id="poor"), credit=0)
    assert v2(world, {**ADD, "key": poor}).json == {"error": "Not enough funds on balance"}


@pytest.mark.parametrize("place", ["form", "json", "multipart", "query", "bearer", "x-api-key", "untyped"])
def test_the_key_and_the_fields_in_every_encoding(world: World, place: str) -> None:
    calls: dict[str, dict[str, Any]] = {
        "form": {"headers": {"content-type": FORM}, "body": f"key={world.key}&action=balance".encode()},
        "untyped": {"body": f"key={world.key}&action=balance".encode()},
        "json": {
            "headers": {"content-type": "application/json; charset=utf-8"},
            "body": json.dumps({"key": world.key, "action": "balance"}).encode(),
        },
        "multipart": {
            "headers": {"content-type": "multipart/form-data; boundary=xyz"},
            "body": (
                f'--xyz\r\nContent-Disposition: form-data; name="key"\r\n\r\n{world.key}\r\n'
                '--xyz\r\nContent-Disposition: form-data; name="action"\r\n\r\nbalance\r\n--xyz--\r\n'
            ).encode(),
        },
        "query": {"method": "GET", "query": (("key", world.key), ("action", "balance"))},
        "bearer": {
            "headers": {"content-type": FORM, "authorization": f"Bearer {world.key}"},
            "body": b"action=balance",
        },
        "x-api-key": {"headers": {"content-type": FORM, "x-api-key": world.key}, "body": b"action=balance"},
    }
    assert v2(world, **calls[place]).json == {"balance": "100", "currency": "USD"}


@pytest.mark.parametrize(
    ("content_type", "body"),
    [
        ("application/json", b"{"),
        ("application/json", b"[" * 3000),
        ("application/json", b'{"a":NaN}'),
        ("application/json", b'{"a":1,"a":2}'),
        ("application/json", b'{"a":1e999999999}'),
        ("application/json", b'{"a":' + b"9" * 5000 + b"}"),
        ("application/json", b'"text"'),
        ("application/json", b"\xff\xfe"),
        ("application/xml", b"<a/>"),
        ("multipart/form-data", b"no boundary"),
        ("multipart/form-data; boundary=x", b"--x\r\nbroken"),
        (FORM, b"a=%ff%fe"),
        (FORM, b"&".join(b"a%d=1" % n for n in range(1000))),
        (FORM, b"a=" + b"x" * 300_000),
    ],
)
def test_hostile_bodies_are_incorrect_requests(world: World, content_type: str, body: bytes) -> None:
    answer = v2(world, headers={"content-type": content_type, "x-api-key": world.key}, body=body)
    assert (answer.status, answer.json) == (200, {"error": "Incorrect request"})


def test_a_defect_is_told_to_the_log_without_its_text(world: World, caplog: pytest.LogCaptureFixture) -> None:
    def breaks(_panel: object, _fields: object) -> Any:
        raise RuntimeError("the secret is pk-4f9c2a7711d0e6b8")

    world.panel.behaviours["status"] = breaks
    order = v2(world, ADD).json["order"]
    with caplog.at_level(logging.ERROR, logger="panelgate"):
        answer = v2(world, {"action": "status", "order": order})

    assert answer.json == {"error": "Service temporarily unavailable"}
    assert "pk-4f9c2a7711d0e6b8" not in str([vars(record) for record in caplog.records])
    assert any(record.message == "defect" for record in caplog.records)


def test_idempotency_by_header_and_by_field_share_their_names(world: World) -> None:
    body = f"key={world.key}&action=add&service=1001&link={LINK}&quantity=100".encode()
    first = v2(world, headers={"content-type": FORM, "idempotency-key": "k1"}, body=body)
    again = v2(world, {**ADD, "idempotency_key": "k1"})

    assert first.json == again.json
    assert "Idempotent-Replayed" not in first.headers
    assert again.headers["Idempotent-Replayed"] == "true"
    assert world.panel.asked("add") == 1


def test_native_ids_are_the_providers_own(world: World) -> None:
    key = world.add_tenant(Tenant(id="moved", ids=Ids.NATIVE, providers=frozenset({"smosale"})))
    assert [row["service"] for row in v2(world, {"action": "services", "key": key}).json] == [1, 2]
    assert v2(world, {**ADD, "service": "1", "key": key}).json["order"]
