"""What the eleven clients of protocol.md 2 send, and what must not be guessed."""

import json
from typing import Any
from urllib.parse import quote, urlencode

import pytest

from chalicelib.clock import SECOND
from chalicelib.model import Tenant
from tests.api.http import FORM, Answered, v2
from tests.market import Market
from tests.world import LINK

JSON = "application/json"
BOUNDARY = "----panel"


def multipart(pairs: list[tuple[str, str]]) -> bytes:
    parts = [
        f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{value}\r\n' for name, value in pairs
    ]
    return ("".join(parts) + f"--{BOUNDARY}--\r\n").encode()


def post(market: Market, content_type: str, body: bytes) -> Answered:
    return v2(market, headers={"content-type": content_type, "x-api-key": market.key}, body=body)


def form(market: Market, text: str) -> Answered:
    return post(market, FORM, text.encode())


@pytest.fixture
def orders(market: Market) -> list[int]:
    service = market.service("smmrich", "Default")
    fields = {"action": "add", "service": service, "quantity": 100}
    return [v2(market, {**fields, "link": f"{LINK}/{n}"}).json["order"] for n in range(3)]


LISTS: dict[str, Any] = {
    "comma text": lambda m, i: form(m, f"action=status&orders={i[0]},{i[1]},{i[2]}"),
    "spaces": lambda m, i: form(m, f"action=status&orders=+{i[0]}+,+{i[1]}%0A,{i[2]},"),
    "spaces alone": lambda m, i: form(m, f"action=status&orders={i[0]}+{i[1]}+{i[2]}"),
    "duplicates": lambda m, i: form(m, f"action=status&orders={i[0]},{i[1]},{i[0]},{i[2]},0{i[1]}"),
    "repeated": lambda m, i: form(m, "action=status&" + "&".join(f"orders={n}" for n in i)),
    "brackets": lambda m, i: form(m, "action=status&" + "&".join(f"orders%5B%5D={n}" for n in i)),
    "indexed": lambda m, i: form(m, "action=status&" + "&".join(f"orders[{p}]={n}" for p, n in enumerate(i))),
    "negative indices": lambda m, i: form(
        m, "action=status&" + "&".join(f"orders[{p - 1}]={n}" for p, n in enumerate(i))
    ),
    "lists of lists": lambda m, i: form(m, "action=status&" + "&".join(f"orders[{p}][]={n}" for p, n in enumerate(i))),
    "odd indices": lambda m, i: form(m, "action=status&" + "&".join(f"orders[ {p}-x]={n}" for p, n in enumerate(i))),
    "semicolons": lambda m, i: form(m, "action=status&orders=" + quote(";".join(map(str, i)))),
    "bars": lambda m, i: form(m, "action=status&orders=" + quote("|".join(map(str, i)))),
    "leading zeros": lambda m, i: form(m, f"action=status&orders=00{i[0]},{i[0]},{i[1]},{i[2]}"),
    "JSON in brackets": lambda m, i: post(m, JSON, json.dumps({"action": "status", "orders[]": i}).encode()),
    "JSON with null": lambda m, i: post(m, JSON, json.dumps({"action": "status", "orders": [None, *i]}).encode()),
    "JSON lists in a list": lambda m, i: post(m, JSON, json.dumps({"action": "status", "orders": [i]}).encode()),
    "JSON with a BOM": lambda m, i: post(
        m, JSON, b"\xef\xbb\xbf" + json.dumps({"action": "status", "orders": i}).encode()
    ),
    "JSON with a BOM as a form": lambda m, i: post(
        m, FORM, b"\xef\xbb\xbf" + json.dumps({"action": "status", "orders": i}).encode()
    ),
    "JSON in a form": lambda m, i: form(m, f"action=status&orders={quote(json.dumps(i))}"),
    "JSON text in a form": lambda m, i: form(m, f"action=status&orders={quote(json.dumps([str(n) for n in i]))}"),
    "query": lambda m, i: v2(
        m, method="GET", query=(("key", m.key), ("action", "status"), *(("orders[]", str(n)) for n in i))
    ),
    "multipart": lambda m, i: post(
        m,
        f"multipart/form-data; boundary={BOUNDARY}",
        multipart([("action", "status"), *(("orders[]", str(n)) for n in i)]),
    ),
    "JSON numbers": lambda m, i: post(m, JSON, json.dumps({"action": "status", "orders": i}).encode()),
    "JSON texts": lambda m, i: post(m, JSON, json.dumps({"action": "status", "orders": [str(n) for n in i]}).encode()),
    "JSON comma text": lambda m, i: post(
        m, JSON, json.dumps({"action": "status", "orders": ", ".join(map(str, i))}).encode()
    ),
    "JSON object of PHP": lambda m, i: post(
        m, JSON, json.dumps({"action": "status", "orders": {str(p): n for p, n in enumerate(i, 1)}}).encode()
    ),
    "JSON floats": lambda m, i: post(
        m, JSON, json.dumps({"action": "status", "orders": [n * 1.0 for n in i]}).encode()
    ),
    "JSON as a form": lambda m, i: post(m, FORM, json.dumps({"action": "status", "orders": i}).encode()),
    "JSON as text": lambda m, i: post(
        m, "text/plain;charset=UTF-8", json.dumps({"action": "status", "orders": i}).encode()
    ),
    "query and body": lambda m, i: v2(
        m,
        query=(("action", "status"),),
        headers={"content-type": FORM, "x-api-key": m.key},
        body=f"orders={i[0]},{i[1]},{i[2]}".encode(),
    ),
}


@pytest.mark.parametrize("spelling", LISTS)
def test_lists_in_every_way_that_clients_write_them(market: Market, orders: list[int], spelling: str) -> None:
    answer = LISTS[spelling](market, orders)
    assert [int(number) for number in answer.json] == orders, answer.text
    assert all("status" in status for status in answer.json.values())


@pytest.mark.parametrize("place", ["query", "bearer", "x-api-key"])
def test_an_empty_key_in_one_place_does_not_hide_a_good_one_in_another(market: Market, place: str) -> None:
    places: dict[str, Any] = {
        "query": {"query": (("key", market.key),), "headers": {"content-type": FORM}},
        "bearer": {"headers": {"content-type": FORM, "authorization": f"Bearer {market.key}"}},
        "x-api-key": {"headers": {"content-type": FORM, "authorization": "Bearer", "x-api-key": market.key}},
    }
    assert v2(market, body=b"key=&action=balance", **places[place]).json == {"balance": "1000", "currency": "USD"}


# The places of a key, the first that holds one first.
PLACES = ("body", "query", "bearer", "x-api-key")


@pytest.mark.parametrize(
    ("first", "other"), [(one, other) for number, one in enumerate(PLACES) for other in PLACES[number + 1 :]]
)
def test_of_keys_in_several_places_the_first_counts_be_it_good_or_not(market: Market, first: str, other: str) -> None:
    def ask(**keys: str) -> Any:
        headers = {"content-type": FORM}
        if "bearer" in keys:
            headers["authorization"] = f"Bearer {keys['bearer']}"
        if "x-api-key" in keys:
            headers["x-api-key"] = keys["x-api-key"]
        query = (("key", keys["query"]),) if "query" in keys else ()
        body = urlencode({"action": "balance", **({"key": keys["body"]} if "body" in keys else {})}).encode()
        return v2(market, headers=headers, query=query, body=body).json

    neighbour = market.add_tenant(Tenant(id="neighbour"), credit=7 * SECOND)
    assert ask(**{first: market.key, other: neighbour}) == {"balance": "1000", "currency": "USD"}
    assert ask(**{first: neighbour, other: market.key}) == {"balance": "7", "currency": "USD"}
    assert ask(**{first: "wrong", other: market.key}) == {"error": "Invalid API key"}


COMMENTS: dict[str, Any] = {
    "LF": {"comments": "\n".join("abcdefghij")},
    "CRLF": {"comments": "\r\n".join("abcdefghij")},
    "brackets": {"comments[]": list("abcdefghij")},
    "repeated": {"comments": list("abcdefghij")},
}


@pytest.mark.parametrize("spelling", COMMENTS)
def test_comments_in_every_way_that_clients_write_them(market: Market, spelling: str) -> None:
    service = market.service("smosale", "Custom Comments")
    answer = v2(market, {"action": "add", "service": service, "link": LINK, **COMMENTS[spelling]})
    assert "order" in answer.json, answer.text
    assert market.asked("smosale", "add")[0]["comments"] == "\n".join("abcdefghij")


def test_of_a_repeated_field_that_is_no_list_the_last_counts_as_in_php(market: Market) -> None:
    service = market.service("smosale", "Default")
    answer = form(market, f"action=add&service={service}&link={quote(LINK)}&quantity=5&quantity=100")
    assert "order" in answer.json
    assert market.bought("smosale")[0].quantity == 100


@pytest.mark.parametrize(
    "body",
    [
        "order=12",
        "orders=12,13",
        "refill=1",
        "refills=1,2",
        "service=1&link=x&quantity=100",
        "action=&order=12",
        "Action=status&order=12",
        "",
    ],
)
def test_without_an_action_nothing_is_guessed(market: Market, body: str) -> None:
    heard = len(market.network.heard)
    assert form(market, body).json == {"error": "Incorrect request"}
    assert len(market.network.heard) == heard


@pytest.mark.parametrize("action", ["Status", "STATUS", "orderstatus", "multiStatus", "status ", "delete"])
def test_an_action_that_nobody_knows_is_incorrect(market: Market, action: str) -> None:
    assert v2(market, {"action": action, "order": 1}).json == {"error": "Incorrect action"}


@pytest.mark.parametrize(
    "fields",
    [
        {"action": "refill_status", "order": "1", "refill": "2"},
        {"action": "status", "order": "1", "orders": "2"},
        {"action": "cancel"},
        {"action": "refill_status"},
        {"action": "refill", "orders": ",".join(map(str, range(101)))},
        {"action": "cancel", "orders": ",".join(map(str, range(1, 102)))},
    ],
)
def test_requests_that_could_mean_two_things_or_nothing(market: Market, fields: dict[str, str]) -> None:
    answer = v2(market, fields)
    if "refill" in fields:
        assert answer.json == {"error": "Refill not found"}
    else:
        assert answer.json == {"error": "Incorrect request"}
