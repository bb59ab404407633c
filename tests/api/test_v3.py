"""The JSON API, named by what it answers."""

import logging
from decimal import Decimal
from typing import Any

import pytest

from chalicelib.api.cors import preflight
from chalicelib.clock import SECOND
from chalicelib.model import Provider, Tenant
from tests.api.http import Answered, incoming, v3
from tests.world import LINK, World, buys_and_loses_the_answer, cannot_be_reached, says

ADD = {"action": "add", "service": 1001, "link": LINK, "quantity": 6500}


def refused(answer: Answered) -> tuple[int, str]:
    assert set(answer.json) == {"error", "code", "request_id"}
    assert answer.json["request_id"] == answer.headers["X-Request-Id"]
    return answer.status, answer.json["code"]


def test_200_balance_is_an_exact_number(world: World) -> None:
    world.parts.wallet.credit("acme", 842_920, reference="r")
    assert v3(world, {"action": "balance"}).text == '{"balance":100.84292,"currency":"USD"}'


def test_200_add_says_what_was_charged(world: World) -> None:
    answer = v3(world, ADD)
    assert answer.status == 200
    assert answer.text == f'{{"order":{answer.json["order"]},"charged":5.85}}'


def test_202_add_whose_outcome_is_not_known_and_its_replay(world: World) -> None:
    world.panel.behaviours["add"] = buys_and_loses_the_answer
    first = v3(world, ADD, headers={"idempotency-key": "k"})
    again = v3(world, {**ADD, "idempotency_key": "k"})

    assert first.status == again.status == 202
    assert first.json["pending_confirmation"] is True
    assert again.text == first.text
    assert again.headers["Idempotent-Replayed"] == "true"
    assert len(world.panel.purchases) == 1


def test_200_status_with_exact_numbers_and_nulls(world: World) -> None:
    order = v3(world, ADD).json["order"]
    status = v3(world, {"action": "status", "order": order}).json

    assert status == {
        "order": order,
        "status": "in_progress",
        "start_count": 10,
        "remains": 157,
        "charge": 5.85,
        "currency": "USD",
        "updated_at": "2027-01-15T08:00:00.000Z",
        "stale": False,
    }


def test_more_cannot_remain_than_was_ordered(world: World) -> None:
    order = v3(world, ADD).json["order"]
    world.panel.behaviours["status"] = says({"status": "Partial", "remains": "99999", "start_count": "1"})
    assert v3(world, {"action": "status", "order": order}).json["remains"] == 6500


def test_a_live_status_is_at_most_15_s_old_or_stale(world: World) -> None:
    order = v3(world, ADD).json["order"]
    ask = {"action": "status", "order": order}
    v3(world, ask)
    world.time.sleep(15)
    assert v3(world, ask).json["stale"] is False
    assert world.panel.asked("status") == 1
    world.time.sleep(1)
    world.panel.behaviours["status"] = says({"status": "Completed", "remains": "0", "start_count": "10"})
    assert v3(world, ask).json["status"] == "completed"
    world.time.sleep(3600)
    assert v3(world, ask).json["stale"] is False
    assert world.panel.asked("status") == 2


@pytest.mark.parametrize("behaviour", [cannot_be_reached, says("<html>"), says({"error": "Incorrect order ID"})])
def test_what_the_panel_cannot_say_now_is_stale(world: World, behaviour: Any) -> None:
    order = v3(world, ADD).json["order"]
    ask = {"action": "status", "order": order}
    v3(world, ask)
    world.time.sleep(60)
    world.panel.behaviours["status"] = behaviour
    status = v3(world, ask).json

    assert (status["stale"], status["status"], status["remains"]) == (True, "in_progress", 157)
    assert status["updated_at"] == "2027-01-15T08:00:00.000Z"


def test_services_with_etag_and_304(world: World) -> None:
    first = v3(world, {"action": "services"})
    etag = first.headers["ETag"]

    assert first.json[0]["rate"] == "0.9"
    again = v3(world, {"action": "services"}, headers={"if-none-match": etag})
    assert (again.status, again.text) == (304, "")
    dear = world.add_tenant(Tenant(id="dear", markup=Decimal("0.1")))
    other = v3(world, {"action": "services"}, headers={"authorization": f"Bearer {dear}", "if-none-match": etag})
    assert other.status == 200
    assert other.json[0]["rate"] == "0.99"


@pytest.mark.parametrize("cursor", ["abc", 5, "\ud800", "1" * 65])
def test_a_bad_cursor_is_refused_in_plain_words(world: World, cursor: object) -> None:
    answer = v3(world, {"action": "services", "cursor": cursor})
    assert refused(answer) == (400, "invalid_request")
    assert not {"String", "Input", "unicode"} & set(answer.json["error"].split())


def test_services_come_in_pages(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("chalicelib.api.pages.MAX_PAGE", 250)
    first = v3(world, {"action": "services"})
    assert [row["service"] for row in first.json] == [1001]
    assert first.headers["Link"] == '<?cursor=2001>; rel="next"'
    second = v3(world, {"action": "services"}, query=(("cursor", "2001"),))
    assert [row["service"] for row in second.json] == [2001]
    assert "Link" not in second.headers


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({}, (400, "invalid_request")),
        ({"action": "nonsense"}, (400, "unknown_action")),
        ({"action": ["balance"]}, (400, "unknown_action")),
        ({"action": "refill", "order": 1}, (404, "order_not_found")),
        ({**ADD, "service": 99001}, (404, "service_not_found")),
        ({**ADD, "service": True}, (400, "invalid_request")),
        ({**ADD, "service": 1001.5}, (400, "invalid_request")),
        ({"action": "add", "service": 1001, "quantity": 100}, (422, "missing_field")),
        ({**ADD, "quantity": None}, (422, "missing_field")),
        ({**ADD, "quantity": 49}, (422, "invalid_quantity")),
        ({**ADD, "quantity": -100}, (422, "invalid_quantity")),
        ({**ADD, "quantity": 100.5}, (422, "invalid_quantity")),
        ({**ADD, "quantity": "many"}, (422, "invalid_quantity")),
        ({**ADD, "link": 5}, (422, "invalid_link")),
        ({**ADD, "link": "tel:123/4"}, (422, "invalid_link")),
        ({**ADD, "link": "ftp://host/file"}, (422, "invalid_link")),
        ({**ADD, "link": "x" * 2049}, (422, "invalid_link")),
        ({**ADD, "link": "a\u0000b"}, (422, "invalid_link")),
        ({**ADD, "link": "\ud800"}, (422, "invalid_link")),
        ({**ADD, "comments": "nice"}, (400, "invalid_request")),
        ({**ADD, "mystery": ["list"]}, (400, "invalid_request")),
        ({**ADD, "mystery": "a\u0000b"}, (400, "invalid_request")),
        ({**ADD, "max_charge": 5.849999}, (409, "price_changed")),
        ({**ADD, "max_charge": "much"}, (400, "invalid_request")),
        ({**ADD, "idempotency_key": "k" * 256}, (400, "invalid_request")),
        ({**ADD, "idempotency_key": "naïve"}, (400, "invalid_request")),
        ({"action": "status", "order": 1_000_001}, (404, "order_not_found")),
        ({"action": "status", "order": 10**17}, (404, "order_not_found")),
        ({"action": "status", "order": None}, (422, "missing_field")),
    ],
)
def test_bad_input_has_its_code_and_sends_nothing(world: World, fields: Any, expected: tuple[int, str]) -> None:
    assert refused(v3(world, fields)) == expected
    assert not world.panel.requests


@pytest.mark.parametrize(
    "link", ["https://a.b/c?d=e#f", "HTTP://A.B", "instagram.com/x", "a.b:80/x", "@some_user", "user.name-1"]
)
def test_good_links(world: World, link: str) -> None:
    assert v3(world, {**ADD, "link": link}).status == 200


def test_scalars_that_nobody_knows_travel_on_as_text(world: World) -> None:
    v3(world, {**ADD, "goal_key": "g", "n": 5, "flag": True, "max_charge": 99, "comments": "", "posts": 0})
    [purchase] = world.panel.purchases
    assert purchase.items() >= {"goal_key": "g", "n": "5", "flag": "1"}.items()
    assert not purchase.keys() & {"max_charge", "comments", "posts", "idempotency_key"}


def test_an_empty_idempotency_key_in_the_header_is_refused_and_not_ignored(world: World) -> None:
    assert refused(v3(world, ADD, headers={"idempotency-key": ""})) == (400, "invalid_request")
    assert not world.panel.requests


def test_a_disabled_provider_is_not_called_any_more(world: World) -> None:
    order = v3(world, ADD).json["order"]
    world.registry.set_enabled("smosale", enabled=False)
    world.time.sleep(60)
    status = v3(world, {"action": "status", "order": order}).json
    assert (status["status"], status["stale"]) == ("pending", True)
    assert refused(v3(world, ADD)) == (404, "service_not_found")
    assert world.panel.asked("status") == 0


def test_401_looks_the_same_for_all_bad_keys(world: World) -> None:
    issued = world.clients.create("acme")
    world.clients.revoke(issued.client.id)
    expired = world.clients.create("acme", expires=world.time.at)
    wrong = world.key[:-8] + ("A" if world.key[-8] != "A" else "B") + world.key[-7:]
    answers = [
        v3(world, {"action": "balance"}, headers={"authorization": f"Bearer {key}"})
        for key in (issued.key, expired.key, wrong, "", "x", world.key.replace("acme", "nobody"))
    ]
    for answer in answers:
        assert refused(answer) == (401, "invalid_api_key")
        assert answer.json["error"] == "Invalid API key"
        assert "RateLimit" not in answer.headers


def test_revocation_and_suspension_take_effect_on_the_next_request(world: World) -> None:
    assert v3(world, {"action": "balance"}).status == 200
    world.registry.set_active("acme", active=False)
    assert refused(v3(world, {"action": "balance"})) == (403, "forbidden")
    world.registry.set_active("acme", active=True)
    assert v3(world, {"action": "balance"}).status == 200
    [client] = world.clients.of("acme")
    world.clients.revoke(client.id)
    assert refused(v3(world, {"action": "balance"})) == (401, "invalid_api_key")


def test_403_outside_a_keys_scope(world: World) -> None:
    reader = world.clients.create("acme", actions=["balance"], networks=["198.51.100.0/24"]).key
    bearer = {"authorization": f"Bearer {reader}"}
    assert refused(v3(world, {"action": "balance"}, headers=bearer)) == (403, "forbidden")
    assert v3(world, {"action": "balance"}, headers=bearer, address="198.51.100.9").status == 200
    assert refused(v3(world, ADD, headers=bearer, address="198.51.100.9")) == (403, "forbidden")


def test_a_key_for_other_providers_sees_none_of_these(world: World) -> None:
    world.add_provider(Provider(slug="smmrich", number=0, dialect="perfectpanel", url="https://rich.test/api/v2"))
    narrow = {"authorization": "Bearer " + world.clients.create("acme", providers=["smmrich"]).key}
    assert [row["service"] for row in v3(world, {"action": "services"}, headers=narrow).json] == [1002, 2002]
    assert refused(v3(world, ADD, headers=narrow)) == (404, "service_not_found")
    assert v3(world, {**ADD, "service": 1002}, headers=narrow).status == 200
    elsewhere = v3(world, ADD).json["order"]
    assert refused(v3(world, {"action": "status", "order": elsewhere}, headers=narrow)) == (404, "order_not_found")


def test_another_tenants_order_looks_like_none(world: World) -> None:
    order = v3(world, ADD).json["order"]
    other = {"authorization": "Bearer " + world.add_tenant(Tenant(id="other"))}
    theirs = v3(world, {"action": "status", "order": order}, headers=other)
    none = v3(world, {"action": "status", "order": 1_000_001}, headers=other)
    assert refused(theirs) == refused(none) == (404, "order_not_found")
    assert theirs.json["error"] == none.json["error"]


def test_413_and_415(world: World) -> None:
    assert refused(v3(world, body=b'{"a":"' + b"x" * 300_000 + b'"}')) == (413, "too_large")
    assert refused(v3(world, {}, headers={"content-type": "text/plain"})) == (415, "unsupported_media_type")


def test_429_says_when_to_come_back(world: World) -> None:
    for _ in range(20):
        v3(world, {"action": "balance"})
    answer = v3(world, {"action": "balance"})
    assert refused(answer) == (429, "rate_limited")
    assert answer.headers["Retry-After"] == "1"
    world.time.sleep(0.1)
    assert v3(world, {"action": "balance"}).status == 200


def test_503_with_retry_after_when_nothing_was_sent(world: World) -> None:
    world.panel.behaviours["add"] = cannot_be_reached
    answer = v3(world, ADD)
    assert refused(answer) == (503, "service_unavailable")
    assert int(answer.headers["Retry-After"]) > 0


def test_500_tells_the_caller_nothing(world: World, caplog: pytest.LogCaptureFixture) -> None:
    def breaks(_panel: object, _fields: object) -> Any:
        raise RuntimeError("inner secret")

    world.panel.behaviours["add"] = breaks
    with caplog.at_level(logging.ERROR, logger="panelgate"):
        answer = v3(world, ADD)
    assert refused(answer) == (500, "internal")
    assert "secret" not in answer.text
    assert world.money() == (100 * SECOND - 5_850_000, 5_850_000), "what was accepted stays accepted"


def test_pages_read_answers_only_from_listed_origins(world: World) -> None:
    page = "https://shop.example"
    key = world.add_tenant(Tenant(id="shop", origins=frozenset({page})))
    bearer = {"authorization": f"Bearer {key}"}

    good = v3(world, {"action": "balance"}, headers={**bearer, "origin": page})
    assert good.headers["Access-Control-Allow-Origin"] == page
    assert "X-Request-Id" in good.headers["Access-Control-Expose-Headers"]
    for origin in ("https://shop.example.evil.test", "null", "http://shop.example", "https://xshop.example"):
        bad = v3(world, {"action": "balance"}, headers={**bearer, "origin": origin})
        assert refused(bad) == (403, "forbidden")
        assert "Access-Control-Allow-Origin" not in bad.headers
    assert refused(v3(world, {"action": "balance"}, headers={"origin": page})) == (403, "forbidden")
    failed = v3(world, {"action": "balance"}, headers={"authorization": "Bearer x", "origin": page})
    assert failed.headers["Access-Control-Allow-Origin"] == page


def test_preflights_are_granted_to_origins_that_an_active_tenant_lists(world: World) -> None:
    def ask(origin: str) -> Answered:
        return Answered.of(
            preflight(incoming(world, method="OPTIONS", headers={"origin": origin}), world.parts.gateway)
        )

    shop = Tenant(id="shop", origins=frozenset({"https://shop.example"}))
    world.add_tenant(shop)
    granted = ask("https://shop.example")
    assert granted.status == 204
    assert granted.headers["Access-Control-Allow-Methods"] == "POST"
    assert ask("https://other.example").status == 403
    world.registry.set_active(shop.id, active=False)
    assert ask("https://shop.example").status == 403
