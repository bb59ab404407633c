"""Every order type of the protocol, from a caller's form to the panel's books."""

import json
from collections.abc import Callable
from dataclasses import replace
from decimal import Decimal
from typing import Any

import pytest

from chalicelib import jobs
from chalicelib.keys import new_browser_token, new_client_key
from chalicelib.model import Tenant
from sandbox.purchase import TYPES
from tests.api.http import v2, v3
from tests.market import Market
from tests.world import LINK

# Panel, type, fields, and how many units of the rate it costs.
ORDERS: tuple[tuple[str, str, dict[str, Any], int], ...] = (
    ("smosale", "Default", {"link": LINK, "quantity": 100}, 100),
    ("smosale", "Default", {"link": LINK, "quantity": 100, "runs": 3, "interval": 30}, 300),
    ("smmrich", "SEO", {"link": LINK, "quantity": 100, "keywords": "one\ntwo"}, 100),
    ("smosale", "Custom Comments", {"link": LINK, "comments": "\n".join(f"c{n}" for n in range(10))}, 10),
    ("smmrich", "Mentions with Hashtags", {"link": LINK, "quantity": 20, "usernames": "a", "hashtags": "#b"}, 20),
    ("smosale", "Mentions Custom List", {"link": LINK, "usernames": "a\nb\nc\nd\ne"}, 5),
    ("smosale", "Mentions Hashtag", {"link": LINK, "quantity": 20, "hashtag": "#b"}, 20),
    ("smmrich", "Mentions User Followers", {"link": LINK, "quantity": 20, "username": "star"}, 20),
    ("smmrich", "Mentions Media Likers", {"link": LINK, "quantity": 20, "media": "https://example.com/p/2"}, 20),
    ("smmrich", "Mentions", {"link": LINK, "quantity": 20, "usernames": "a\nb"}, 20),
    ("smosale", "Package", {"link": LINK}, 1000),
    ("smosale", "Custom Comments Package", {"link": LINK, "comments": "good\ngreat"}, 1000),
    ("smosale", "Comment Likes", {"link": LINK, "quantity": 10, "username": "owner"}, 10),
    ("smosale", "Poll", {"link": LINK, "quantity": 100, "answer_number": 2}, 100),
    ("smmrich", "Comment Replies", {"link": LINK, "username": "owner", "comments": "a\nb\nc\nd\ne"}, 5),
    ("smosale", "Invites from Groups", {"link": LINK, "quantity": 100, "groups": "g1\ng2"}, 100),
    ("smosale", "Subscriptions", {"username": "star", "min": 20, "max": 30, "delay": 0}, 30),
    (
        "smosale",
        "Subscriptions",
        {"username": "star", "min": 20, "max": 30, "delay": 90, "posts": 4, "old_posts": 3, "expiry": "31/12/2027"},
        210,
    ),
    ("smosale", "Subscriptions", {"username": "star", "min": 20, "max": 30, "delay": 0, "posts": 0}, 30),
    (
        "smosale",
        "Web Traffic",
        {"link": LINK, "quantity": 100, "country": "US", "device": 5, "type_of_traffic": 1, "google_keyword": "k"},
        100,
    ),
    (
        "smosale",
        "Web Traffic",
        {"link": LINK, "quantity": 100, "country": "US", "device": 1, "type_of_traffic": 3, "runs": 2, "interval": 60},
        200,
    ),
    ("mysticsmm", "Default", {"link": LINK, "quantity": 500}, 500),
    ("smmafrica", "Default", {"link": LINK, "quantity": 500, "goal_key": "launch"}, 500),
)
TYPES_WITHOUT_QUANTITY = {kind for _, kind, fields, _ in ORDERS if "quantity" not in fields}
# What panel scripts send of the fields that a type lacks (contract 4).
BLANK = ("quantity", "runs", "interval", "comments", "usernames", "posts", "answer_number", "country", "min")


def ids(case: tuple[str, str, dict[str, Any], int]) -> str:
    return f"{case[0]}-{case[1]}-{len(case[2])}"


def test_every_type_of_the_protocol_is_tried() -> None:
    assert {kind.lower() for _, kind, _, _ in ORDERS} == set(TYPES)


@pytest.mark.parametrize("case", ORDERS, ids=ids)
def test_an_order_is_bought_as_it_was_meant_and_at_its_price(
    market: Market, case: tuple[str, str, dict[str, Any], int]
) -> None:
    slug, kind, fields, units = case
    service = market.service(slug, kind)
    rate = market.panel(slug).services[service // 1000].rate
    answer = v3(market, {"action": "add", "service": service, **fields})

    assert answer.status == 200, answer.text
    assert Decimal(answer.text.split('"charged":')[1].rstrip("}")) == rate * units / 1000
    [bought] = market.bought(slug)
    if kind != "Subscriptions":
        assert bought.charge == rate * units / 1000
    [sent] = market.asked(slug, "add")
    wanted = {"service": service // 1000, **fields}
    assert {name: str(value) for name, value in sent.items() if name not in ("key", "action")} == {
        name: str(value) for name, value in wanted.items()
    }


@pytest.mark.parametrize("case", ORDERS, ids=ids)
def test_a_form_with_every_field_of_the_protocol_blank_or_zero_is_the_same_order(
    market: Market, case: tuple[str, str, dict[str, Any], int]
) -> None:
    slug, kind, fields, _ = case
    full = {**dict.fromkeys(BLANK, "0"), "link": "", "hashtag": "", **fields}
    if kind == "Subscriptions" and "posts" not in fields:
        del full["posts"]  # that type has it, and 0 means old posts only
    answer = v2(market, {"action": "add", "service": market.service(slug, kind), **full})

    assert list(answer.json) == ["order"], answer.text
    [sent] = market.asked(slug, "add")
    assert {name for name in sent if name not in ("key", "action", "service")} == set(fields)


@pytest.mark.parametrize("case", ORDERS, ids=ids)
def test_each_missing_field_is_refused_before_anything_is_sent(
    market: Market, case: tuple[str, str, dict[str, Any], int]
) -> None:
    slug, kind, fields, _ = case
    service = market.service(slug, kind)
    for name in {*fields} - {"posts", "old_posts", "expiry", "goal_key", "runs"}:
        if name == "interval" or (name == "link" and kind == "Subscriptions"):
            continue
        rest = {other: value for other, value in fields.items() if other != name}
        answer = v3(market, {"action": "add", "service": service, **rest})
        assert (answer.status, answer.json["code"]) == (422, "missing_field"), (name, answer.text)
        sentence = "Incorrect link" if name == "link" else "Incorrect request"
        assert v2(market, {"action": "add", "service": service, **rest}).json == {"error": sentence}
    assert not market.bought(slug)
    assert not market.asked(slug, "add")


OF_OTHER_TYPES = {"answer_number": 3, "groups": "g", "posts": 2, "country": "US", "comments": "a", "quantity": 7}


@pytest.mark.parametrize(
    ("case", "name"),
    [
        (case, name)
        for case in ORDERS
        for name in OF_OTHER_TYPES
        if name not in case[2] and (name, case[1]) != ("posts", "Subscriptions")
    ],
    ids=lambda part: part if isinstance(part, str) else ids(part),
)
def test_a_field_of_another_type_is_refused(
    market: Market, case: tuple[str, str, dict[str, Any], int], name: str
) -> None:
    slug, kind, fields, _ = case
    value = OF_OTHER_TYPES[name]
    answer = v3(market, {"action": "add", "service": market.service(slug, kind), **fields, name: value})
    assert (answer.status, answer.json["code"]) == (400, "invalid_request"), answer.text
    assert not market.asked(slug, "add")


@pytest.mark.parametrize(
    ("slug", "kind", "fields", "sentence"),
    [
        ("smosale", "Custom Comments", {"link": LINK, "comments": "one\n\n \r\n"}, "Quantity less than minimal 10"),
        ("smosale", "Custom Comments", {"link": LINK, "comments": "x\n" * 1501}, "Quantity more than maximum 1500"),
        ("smosale", "Mentions Custom List", {"link": LINK, "usernames": "a,b"}, "Quantity less than minimal 5"),
        ("smosale", "Default", {"link": LINK, "quantity": 0}, "Quantity less than minimal 10"),
        ("smosale", "Default", {"link": LINK, "quantity": "1.5"}, "Incorrect quantity"),
        ("smosale", "Default", {"link": LINK, "quantity": 100, "runs": 2}, "Incorrect request"),
        ("smosale", "Default", {"link": LINK, "quantity": 100, "runs": "x", "interval": 1}, "Incorrect request"),
        ("smosale", "Poll", {"link": LINK, "quantity": 100, "answer_number": "two"}, "Incorrect request"),
        (
            "smosale",
            "Subscriptions",
            {"username": "u", "min": 5, "max": 30, "delay": 0},
            "Quantity less than minimal 10",
        ),
        ("smosale", "Subscriptions", {"username": "u", "min": 30, "max": 20, "delay": 0}, "Incorrect quantity"),
        ("smosale", "Subscriptions", {"username": "u", "min": 20, "max": 30, "delay": 7}, "Incorrect request"),
        (
            "smosale",
            "Subscriptions",
            {"username": "u", "min": 20, "max": 30, "delay": 0, "expiry": "2027-01-01"},
            "Incorrect request",
        ),
        (
            "smosale",
            "Subscriptions",
            {"username": "u", "min": 20, "max": 30, "delay": 0, "link": LINK},
            "Incorrect request",
        ),
        (
            "smosale",
            "Web Traffic",
            {"link": LINK, "quantity": 100, "country": "US", "device": 6, "type_of_traffic": 3},
            "Incorrect request",
        ),
        (
            "smosale",
            "Web Traffic",
            {"link": LINK, "quantity": 100, "country": "US", "device": 1, "type_of_traffic": 2},
            "Incorrect request",
        ),
        ("mysticsmm", "Default", {"link": LINK, "quantity": 500, "runs": 2, "interval": 30}, "Incorrect request"),
    ],
)
def test_what_the_panel_would_refuse_has_the_protocols_sentence(
    market: Market, slug: str, kind: str, fields: dict[str, Any], sentence: str
) -> None:
    answer = v2(market, {"action": "add", "service": market.service(slug, kind), **fields})
    assert answer.json == {"error": sentence}
    assert not market.asked(slug, "add")


@pytest.mark.parametrize(
    "comments",
    [
        "\n".join("abcdefghij"),
        "\r\n".join("abcdefghij"),
        "\r".join("abcdefghij"),
        "\n\n\r\n".join("abcdefghij") + "\n\n",
        "\n".join(f"  {letter}\t" for letter in "abcdefghij"),
    ],
    ids=["LF", "CRLF", "CR", "blank lines", "spaces"],
)
def test_lines_are_counted_as_every_panel_counts_them(market: Market, comments: str) -> None:
    """The panel hears LF and no blank lines, so that there is one way only to count them."""
    answer = v2(
        market,
        {"action": "add", "service": market.service("smosale", "Custom Comments"), "link": LINK, "comments": comments},
    )
    assert "order" in answer.json, answer.text
    [sent] = market.asked("smosale", "add")
    assert sent["comments"] == "a\nb\nc\nd\ne\nf\ng\nh\ni\nj"
    assert market.bought("smosale")[0].quantity == 10


def test_separators_that_are_no_line_ends_to_a_panel_do_not_count(market: Market) -> None:
    comments = "\u2028".join("ab") + "\n" + "\n".join("cdefghijk")
    service = market.service("smosale", "Custom Comments")
    assert v3(market, {"action": "add", "service": service, "link": LINK, "comments": comments}).json["charged"] == 0.08
    assert market.bought("smosale")[0].quantity == 10


def test_66_kb_of_comments_with_emoji_arrive_whole(market: Market) -> None:
    comments = [f"{number} so very, very good 👍🏽🔥 très bien" for number in range(1500)]
    assert len("\n".join(comments).encode()) > 66_000
    service = market.service("smosale", "Custom Comments")
    answer = v3(market, {"action": "add", "service": service, "link": LINK, "comments": comments})
    assert answer.status == 200, answer.text
    assert market.asked("smosale", "add")[0]["comments"] == "\n".join(comments)
    assert market.bought("smosale")[0].quantity == 1500


@pytest.mark.parametrize("spelling", ["custom_comments", "CUSTOM COMMENTS", "Custom_comments", "custom-comments"])
def test_a_type_is_known_in_every_spelling(market: Market, spelling: str) -> None:
    panel, number = market.panel("smosale"), market.service("smosale", "Custom Comments")
    panel.services[2] = replace(panel.services[2], type=spelling)
    jobs.sync_catalog(market.parts, market.registry.provider("smosale"))
    listed = [row for row in v2(market, {"action": "services"}).json if row["service"] == number]
    assert listed[0]["type"] == "Custom Comments"


def test_fields_that_nobody_knows_travel_on_but_never_ours(market: Market) -> None:
    service = market.service("smosale", "Default")
    mine = {"key": market.key, "api_token": "t", "idempotency_key": "k", "max_charge": "5"}
    answer = v2(
        market,
        {"action": "add", "service": service, "link": LINK, "quantity": 100, "custom": "x", "is_test": 1, **mine},
    )
    assert "order" in answer.json
    [sent] = market.asked("smosale", "add")
    assert (sent["custom"], sent["is_test"]) == ("x", "1")
    assert sent["key"] == "sandbox-smosale-key"
    assert not {"api_token", "idempotency_key", "max_charge"} & sent.keys()


def test_the_same_order_in_other_words_has_the_same_meaning(market: Market) -> None:
    service = market.service("smosale", "Custom Comments")
    base = {"action": "add", "service": service, "link": LINK, "idempotency_key": "k"}
    first = v2(market, {**base, "comments": "\r\n".join("abcdefghij"), "quantity": "0", "runs": ""})
    again = v3(market, {**base, "service": str(service), "comments": list("abcdefghij")})
    assert again.status == 200
    assert again.json["order"] == first.json["order"]
    assert again.headers["Idempotent-Replayed"] == "true"
    other = v3(market, {**base, "comments": list("abcdefghik")})
    assert (other.status, other.json["code"]) == (422, "idempotency_key_reused")
    assert len(market.bought("smosale")) == 1


@pytest.mark.parametrize(
    "noise", [{"delay": 0, "min": 0, "posts": "0"}, {"runs": 0, "interval": "0"}, {"username": "", "comments": " "}]
)
def test_fields_that_do_not_apply_are_no_part_of_the_meaning(market: Market, noise: dict[str, Any]) -> None:
    key = market.add_tenant(Tenant(id="careful", dedupe=120, interval=1, burst=100))
    fields = {"action": "add", "service": market.service("smosale", "Default"), "link": LINK, "quantity": 100}
    first = v2(market, {**fields, "key": key})
    assert v2(market, {**fields, **noise, "key": key}).json == first.json
    keyed = v3(market, {**fields, "idempotency_key": "k"})
    assert v3(market, {**fields, **noise, "idempotency_key": "k"}).text == keyed.text
    assert len(market.bought("smosale")) == 2


def test_posts_of_a_subscription_mean_something_also_when_0(market: Market) -> None:
    base = {"action": "add", "service": market.service("smosale", "Subscriptions"), "idempotency_key": "k"}
    fields = {"username": "star", "min": 20, "max": 30, "delay": 0}
    assert v3(market, {**base, **fields}).status == 200
    assert v3(market, {**base, **fields, "posts": 0}).json["code"] == "idempotency_key_reused"


def test_a_drip_feed_may_have_no_pause(market: Market) -> None:
    fields = {"action": "add", "service": market.service("smosale", "Default"), "link": LINK, "quantity": 100}
    assert "order" in v2(market, {**fields, "runs": 2, "interval": "0"}).json
    [sent] = market.asked("smosale", "add")
    assert (sent["runs"], sent["interval"]) == ("2", "0")
    assert v3(market, {**fields, "interval": 10}).json["code"] == "missing_field"


@pytest.mark.parametrize("name", ["old.posts", "api.token", "max.charge", "quantity.", "a.b"])
def test_no_field_of_ours_travels_under_a_name_that_php_turns_into_it(market: Market, name: str) -> None:
    fields = {"action": "add", "service": market.service("smosale", "Default"), "link": LINK, "quantity": 100}
    answer = v3(market, {**fields, name: "5"})
    assert (answer.status == 200) is (name in {"a.b", "quantity."})


@pytest.mark.parametrize(
    "name", ["Key", "ACTION", "Api_Token", "Idempotency-Key", "IDEMPOTENCY_KEY", "Max-Charge", "Quantity", "Posts"]
)
def test_no_field_of_ours_travels_in_other_letters(market: Market, name: str) -> None:
    fields = {"action": "add", "service": market.service("smosale", "Default"), "link": LINK, "quantity": 100}
    answer = v3(market, {**fields, name: "5"})
    assert (answer.status, answer.json["code"]) == (400, "invalid_request")
    assert not market.bought("smosale")


@pytest.mark.parametrize("name", ["api_key", "Key"])
@pytest.mark.parametrize("around", ["{}", "Bearer {}", "{}x"])
@pytest.mark.parametrize("new_key", [new_client_key, new_browser_token])
def test_a_key_of_ours_does_not_travel_on(
    market: Market, new_key: Callable[[str], str], around: str, name: str
) -> None:
    key = new_key("acme")
    fields = {"action": "add", "service": market.service("smosale", "Default"), "link": LINK, "quantity": 100}
    answer = v2(market, {**fields, name: around.format(key), "goal_key": "launch"})
    assert "order" in answer.json, answer.text
    [sent] = market.asked("smosale", "add")
    assert sent["goal_key"] == "launch"
    assert key not in str(sent)
    assert name not in sent
    assert key not in str(list(market.parts.table.query("T#acme")))


@pytest.mark.parametrize(
    ("header", "field", "answer"),
    [
        ("k1", "", 200),
        ("k1", None, 200),
        ("k1", "k1", 200),
        ("k1", "k2", 400),
        (None, 12345, 200),
        ("12345", 12345, 200),
        ("", "k", 400),
        ("k" * 256, None, 400),
        ("naïve", None, 400),
        (None, True, 400),
        (None, " ", 200),
    ],
)
def test_the_idempotency_key_in_the_header_and_in_the_field(
    market: Market, header: str | None, field: object, answer: int
) -> None:
    fields = {"action": "add", "service": market.service("smosale", "Default"), "link": LINK, "quantity": 100}
    headers = {} if header is None else {"idempotency-key": header}
    first, again = (v3(market, {**fields, "idempotency_key": field}, headers=headers) for _ in range(2))
    assert first.status == again.status == answer, first.text
    assert len(market.bought("smosale")) == (1 if answer == 200 else 0)


def test_a_refusal_is_replayed_to_the_letter(market: Market) -> None:
    market.panel("smosale").settings.refuse_duplicate_links = True
    fields = {"action": "add", "service": market.service("smosale", "Default"), "link": LINK, "quantity": 100}
    assert v3(market, fields).status == 200
    first, again = (v3(market, {**fields, "idempotency_key": "k"}) for _ in range(2))
    assert first.json["code"] == "duplicate_link"
    assert again.text == first.text
    assert again.headers["Idempotent-Replayed"] == "true"
    assert again.headers["X-Request-Id"] != first.headers["X-Request-Id"]


def test_a_package_costs_its_rate_with_the_markup(market: Market) -> None:
    key = market.add_tenant(Tenant(id="dear", markup=Decimal("0.1"), interval=1, burst=100))
    service = market.service("smosale", "Package")
    answer = v3(market, {"action": "add", "service": service, "link": LINK}, headers={"authorization": f"Bearer {key}"})
    assert json.loads(answer.text)["charged"] == 4.95
    assert market.money("dear") == (1000_000_000 - 4_950_000, 0)


@pytest.mark.parametrize("kind", sorted(TYPES_WITHOUT_QUANTITY))
def test_types_without_a_quantity_send_none(market: Market, kind: str) -> None:
    slug, _, fields, _ = next(case for case in ORDERS if case[1] == kind)
    v2(market, {"action": "add", "service": market.service(slug, kind), **fields, "quantity": 0})
    [sent] = market.asked(slug, "add")
    assert "quantity" not in sent


@pytest.mark.parametrize("runs", ["00", " 0", 0])
def test_no_runs_in_any_spelling_are_none(market: Market, runs: object) -> None:
    fields = {"action": "add", "service": market.service("smosale", "Default"), "link": LINK, "quantity": 100}
    assert v3(market, {**fields, "runs": runs, "interval": 0}).status == 200
    assert not {"runs", "interval"} & market.asked("smosale", "add")[0].keys()


def test_a_subscription_with_a_link_of_0_has_none(market: Market) -> None:
    fields = {"username": "star", "min": 20, "max": 30, "delay": 0, "link": 0}
    assert v3(market, {"action": "add", "service": market.service("smosale", "Subscriptions"), **fields}).status == 200


def test_short_numbers_that_are_long_in_full_are_refused(market: Market) -> None:
    body = json.dumps({"action": "add", "service": market.service("smmrich", "SEO"), "link": LINK, "quantity": 100})
    many = ",".join(["1e39"] * 45_000)
    answer = v3(market, body=f'{body[:-1]},"keywords":[{many}]}}'.encode())
    assert (answer.status, answer.json["code"]) == (413, "too_large")
