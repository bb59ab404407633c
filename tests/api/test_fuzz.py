"""Whatever is sent: no 5xx, only what the protocol allows, and nothing reaches a panel that it would refuse.

The panels are the sandbox's, which reads an order by rules of its own.
"""

import json
from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import urlencode

import pytest
from hypothesis import HealthCheck, event, example, given, settings
from hypothesis import strategies as st

from chalicelib.aws.order_writes import binding_key
from chalicelib.clock import SECOND
from chalicelib.model import Account
from sandbox.messages import PanelError
from sandbox.orders import Order
from sandbox.purchase import TYPES, read_purchase
from tests.api.http import FORM, Answered, v2, v3
from tests.market import Market
from tests.world import LINK

ONE_MARKET = settings(max_examples=300, suppress_health_check=[HealthCheck.function_scoped_fixture])
TEXTS = st.text(max_size=12) | st.sampled_from(
    ("", " ", "0", "1", "5", "10", "100", "-1", "1.5", "1e3", "0x10", "٣", "null", "a\nb\r\nc", "a,b", LINK, "@user")
)
SCALARS = (
    st.none()
    | st.booleans()
    | st.integers(-5, 2000)
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | TEXTS
)
VALUES = SCALARS | st.lists(SCALARS, max_size=4) | st.dictionaries(st.text(max_size=3), SCALARS, max_size=2)
NAMED = st.sampled_from(("star", "#tag", "https://example.com/p/2", "two words")) | TEXTS
LINES = st.integers(0, 120).map(lambda count: "\n".join(f"line {n}" for n in range(count)))
FITTING: Mapping[str, st.SearchStrategy[Any]] = {
    "link": st.sampled_from((LINK, "example.com/p/1", "@user", "https://xn--e1afmkfd.xn--p1ai/é")),
    "quantity": st.sampled_from((100, 100, 100, "100", 500, 500, 0, 10, 50, 1000, 10**5, "")),
    "runs": st.sampled_from((0, 1, 2, "3", "", 10**9)),
    "interval": st.sampled_from((0, 10, "30", "")),
    "comments": LINES,
    "usernames": LINES,
    "hashtags": LINES,
    "keywords": LINES,
    "groups": LINES,
    "username": NAMED,
    "hashtag": NAMED,
    "media": NAMED,
    "answer_number": st.integers(0, 9),
    "min": st.sampled_from((10, 20, "30", 5001)),
    "max": st.sampled_from((10, 20, "30", 5001)),
    "delay": st.sampled_from((0, 5, 7, "90", 600)),
    "posts": st.sampled_from((0, 1, "5", "")),
    "old_posts": st.sampled_from((0, 1, "5", "")),
    "expiry": st.sampled_from(("", "31/12/2027", "1/1/2028", "31.12.2027", "2027-12-31")),
    "country": st.sampled_from(("US", "United States", "")),
    "device": st.integers(0, 6),
    "type_of_traffic": st.integers(0, 4),
    "google_keyword": NAMED,
    "referring_url": NAMED,
}
NAMES = st.sampled_from(
    (
        *FITTING,
        *("service", "order", "orders", "refill", "refills", "key", "action", "api_token", "idempotency_key"),
        *("max_charge", "goal_key", "cursor", "custom", "limit", "since", "status", "orders[]", "comments[0]", "a b"),
    )
)
ACTIONS = st.sampled_from(
    ("add", "status", "refill", "refill_status", "cancel", "balance", "services", "orders", "usage", "token", "x", None)
)


# What a type may have beside what it needs, on panels and here.
OPTIONAL = {
    "default": ("runs", "interval"),
    "web traffic": ("runs", "interval", "google_keyword", "referring_url"),
    "subscriptions": ("posts", "old_posts", "expiry"),
}


def offered(market: Market) -> list[tuple[int, str]]:
    """Return the public id and the type of every service of every panel."""
    numbers = {provider.slug: provider.number for provider in market.parts.directory.providers().values()}
    return sorted(
        (service.id * 1000 + numbers[slug], service.type.lower())
        for slug, panel in market.network.panels.items()
        for service in panel.services.values()
    )


def draw_order(draw: Callable[[st.SearchStrategy[Any]], Any], service: int, kind: str) -> dict[str, Any]:
    """Draw an order that is right or nearly right for its type."""
    needed = [*TYPES[kind].required]
    extra = draw(st.lists(st.sampled_from(OPTIONAL.get(kind, ("quantity",))), unique=True, max_size=3))
    wrong = draw(st.lists(st.sampled_from(sorted(FITTING)), max_size=1)) if draw(st.integers(0, 3)) == 0 else []
    dropped = draw(st.sampled_from(needed)) if draw(st.integers(0, 9)) == 0 else None
    names = dict.fromkeys(name for name in (*needed, *extra, *wrong) if name != dropped)
    return {"action": "add", "service": service, **{name: draw(FITTING[name]) for name in names}}


def call(market: Market, version: str, fields: Mapping[str, Any]) -> Answered:
    """Send fields as JSON to v3, or to v2 as JSON, as a form or in the query."""
    market.time.at += SECOND
    flat = {name: value for name, value in fields.items() if value is not None}
    match version:
        case "v3":
            return v3(market, fields)
        case "v2 json":
            body = json.dumps({"key": market.key, **fields}).encode()
            return v2(market, headers={"content-type": "application/json"}, body=body)
        case "v2 query":
            return v2(market, method="GET", query=(("key", market.key), *((n, str(v)) for n, v in flat.items())))
        case _:
            body = urlencode({"key": market.key, **flat}, doseq=True, errors="replace").encode()
            return v2(market, headers={"content-type": FORM}, body=body)


VERSIONS = st.sampled_from(("v3", "v2 json", "v2 query", "v2 form"))


def check_answer(version: str, answer: Answered) -> None:
    assert answer.status < 500, answer.text
    body: Any = json.loads(answer.text)
    if version == "v3":
        if answer.status >= 400:
            assert set(body) == {"error", "code", "request_id"}
        return
    assert answer.status == 200
    assert "error" not in body or list(body) == ["error"]


def check_panels(market: Market, since: int) -> None:
    """Assert that every order that a panel heard of since is one that it took, as it was written."""
    for slug, fields in market.network.heard[since:]:
        if fields.get("action") != "add":
            continue
        service = market.panel(slug).service(str(fields["service"]))
        try:
            read_purchase(service, {name: str(value) for name, value in fields.items()})
        except PanelError as error:
            pytest.fail(f"{slug} was sent what it refuses ({error}): {fields}")
    for slug, panel in market.network.panels.items():
        for bought in [
            order for order in panel.orders.values() if order.id not in CHECKED.setdefault(id(panel), set())
        ]:
            check_price(market, slug, bought)
            CHECKED[id(panel)].add(bought.id)


# By panel, the orders whose price was checked.
CHECKED: dict[int, set[int]] = {}


def check_price(market: Market, slug: str, bought: Order) -> None:
    bound = market.parts.table.get(*binding_key(Account(slug), bought.id))
    assert bound is not None
    ours = market.parts.orders.get(bound["tenant"], bound["order"])
    assert ours is not None
    if bought.subscription is None:
        assert bought.charge * 1_000_000 == ours.charge, (bought, ours)


@ONE_MARKET
@given(data=st.data(), version=VERSIONS)
def test_an_order_is_refused_or_is_what_the_panel_takes_at_the_price_that_it_takes(
    market: Market, data: st.DataObject, version: str
) -> None:
    heard = len(market.network.heard)
    service, kind = data.draw(st.sampled_from(offered(market)))
    answer = call(market, version, draw_order(data.draw, service, kind))
    check_answer(version, answer)
    event("ordered" if "order" in json.loads(answer.text) else "refused")
    check_panels(market, heard)
    market.money()


@ONE_MARKET
@given(action=ACTIONS, fields=st.dictionaries(NAMES | st.text(max_size=6), VALUES, max_size=6), version=VERSIONS)
@example(action="add", fields={"service": {"a": 1}}, version="v3")
@example(action="status", fields={"orders": {"": {}}}, version="v2 json")
def test_any_fields_have_an_answer_that_the_protocol_allows(
    market: Market, action: str | None, fields: dict[str, Any], version: str
) -> None:
    heard = len(market.network.heard)
    given_ = {**fields, "action": action}
    if version != "v3":
        given_.pop("key", None)
    else:
        given_["key"] = None
    check_answer(version, call(market, version, given_))
    check_panels(market, heard)


@ONE_MARKET
@given(
    body=st.binary(max_size=200) | st.text(max_size=200).map(lambda text: text.encode("utf-8", "surrogatepass")),
    content_type=st.sampled_from(
        (
            FORM,
            "application/json",
            "text/plain",
            "",
            "multipart/form-data; boundary=x",
            "multipart/form-data",
            "a/b",
            "/;",
        )
    ),
    version=st.sampled_from(("v2", "v3")),
)
@example(body=b"[" * 5000, content_type="application/json", version="v2")
@example(body=b'{"action":"add","service":NaN}', content_type="application/json", version="v3")
@example(
    body=b'--x\r\nContent-Disposition: form-data; name="a"\r\n\r\n',
    content_type="multipart/form-data; boundary=x",
    version="v2",
)
def test_any_bytes_have_an_answer(market: Market, body: bytes, content_type: str, version: str) -> None:
    headers = {"content-type": content_type, "authorization": f"Bearer {market.key}"}
    market.time.at += SECOND
    if version == "v2":
        check_answer("v2", v2(market, headers=headers, body=body))
    else:
        check_answer("v3", v3(market, headers=headers, body=body or b" "))
