"""What can be asked, out of the very models that check it (``commands.COMMANDS``)."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from pydantic.json_schema import GenerateJsonSchema

from chalicelib.actions import CLASSIC_ACTIONS, Action
from chalicelib.api.openapi.cases import CASES
from chalicelib.api.openapi.shapes import Schema, ref
from chalicelib.commands import COMMANDS

ACTIONS: Mapping[Action, str] = {
    Action.BALANCE: "What money there is to order with, without what open orders hold.",
    Action.SERVICES: "What can be ordered, at your prices per 1000.",
    Action.ADD: "Place an order. `quantity` is per run of a drip-feed; the charge is for all runs.",
    Action.STATUS: "How orders are doing: one by `order`, up to 100 by `orders`.",
    Action.REFILL: "Ask for refills: of one order by `order`, of up to 100 by `orders`.",
    Action.REFILL_STATUS: "How refills are doing: one by `refill`, up to 100 by `refills`.",
    Action.CANCEL: "Ask that orders be canceled: one by `order`, up to 100 by `orders`. The outcome is in `status`.",
    Action.ORDERS: "Your own orders, newest first, page by page.",
    Action.USAGE: "Calls, orders, spend and refunds, day by day.",
    Action.TOKEN: "A short-lived token for a web page, never wider than your key. No field of it may be empty.",
}
V2_ACTIONS = CLASSIC_ACTIONS & COMMANDS.keys()

_FIELDS: Mapping[str, str] = {
    "cursor": "Where the next page begins, from the answer before.",
    "order": "An order's id.",
    "orders": "Up to 100 orders' ids.",
    "refill": "A refill's id.",
    "refills": "Up to 100 refills' ids.",
    "service": "A service's id, from `services`.",
    "link": "An http(s) URL, host/path or a user name, without spaces.",
    "quantity": "How many, per run; from the service's `min` to its `max`.",
    "comments": "One comment a line, or a list; their number is the quantity where the type sends none.",
    "usernames": "One user name a line, or a list.",
    "hashtags": "One hashtag a line, or a list.",
    "keywords": "One keyword a line, or a list.",
    "groups": "One group a line, or a list.",
    "min": "Subscriptions: the least that a post gets.",
    "max": "Subscriptions: the most that a post gets.",
    "delay": "Subscriptions: minutes to wait after a post.",
    "posts": "Subscriptions: how many posts to come; without it all, with 0 none. A token with `max_charge` must say "
    "it, and not 0.",
    "old_posts": "Subscriptions: how many earlier posts.",
    "expiry": "Subscriptions: the last day, as d/m/Y.",
    "device": "Web Traffic: 1 desktop, 2 Android, 3 iOS, 4 mobile, 5 all.",
    "type_of_traffic": "Web Traffic: 1 from Google (needs google_keyword), 2 from referring_url, 3 direct.",
    "since": "No orders older than this.",
    "limit": "How many at most.",
    "runs": "Drip-feed: how often. Needs `interval`.",
    "interval": "Drip-feed: minutes between two runs. Needs `runs`.",
    "max_charge": "`add`: refuse the order (`price_changed`) if it would cost more. `token`: what its orders may cost.",
    "actions": "What the token may do.",
    "ttl": "Seconds until it ends; it ends with your key at the latest.",
    "origin": "The one page that may use it, as browsers write its origin; without it any that your account lists.",
    "services": "The ids of the services that it may order; without it all of yours.",
    "subject": "Your name for a customer of yours, whose orders the token makes and sees; without it, its own.",
    "prices": "Whether it sees the balance, prices and charges.",
    "idempotency_key": "The same key makes one order only, however often it is sent. As the header Idempotency-Key. "
    "A token's keys are those of its `subject` or, without one, of all tokens of its client.",
}
_KEY: Schema = {"type": "string", "description": "Your key, unless a header or the query has it."}
_EMPTY: Sequence[Schema] = ({"type": "null"}, {"const": ""})


class _Untitled(GenerateJsonSchema):
    """pydantic titles each field by its name once more."""

    def field_title_should_be_set(self, schema: object) -> bool:  # noqa: ARG002 - pydantic's
        return False


def request_name(action: Action) -> str:
    """Return the name of the schema of an action's requests."""
    return f"{action.value.title().replace('_', '')}Request"


def request_schemas() -> dict[str, Any]:
    """Return the components of all requests: one schema an action, and one a version that chooses among them."""
    components: dict[str, Any] = {
        "V2Request": {**_choice(action for action in COMMANDS if action in V2_ACTIONS), "properties": {"key": _KEY}},
        "V3Request": _choice(COMMANDS),
    }
    for action in COMMANDS:
        schema = _model(action)
        components |= schema.pop("$defs", {})
        components[request_name(action)] = _request(action, schema)
    return components


def query_parameters() -> list[dict[str, Any]]:
    """Return the fields of all requests as parameters of a query, for v2 by GET."""
    fields: dict[str, Any] = {}
    for action in COMMANDS:
        if action in V2_ACTIONS:
            properties: Mapping[str, Any] = _model(action)["properties"]
            fields |= {name: _described(name, _scalar(schema)) for name, schema in properties.items()}
    actions = {"enum": [action.value for action in COMMANDS if action in V2_ACTIONS]}
    return [
        {"name": "action", "in": "query", "required": True, "schema": actions},
        *({"name": name, "in": "query", "schema": schema} | _example(name) for name, schema in fields.items()),
    ]


def _example(name: str) -> dict[str, Any]:
    """Return the first value that an example has for a field, unless none has it."""
    return next(({"example": case.words[name]} for case in CASES if name in case.fields), {})


def _choice(actions: Iterable[Action]) -> dict[str, Any]:
    names = {action.value: ref(request_name(action)) for action in actions}
    mapping = {value: name["$ref"] for value, name in names.items()}
    return {"oneOf": list(names.values()), "discriminator": {"propertyName": "action", "mapping": mapping}}


def _model(action: Action) -> dict[str, Any]:
    return COMMANDS[action].model_json_schema(ref_template="#/components/schemas/{model}", schema_generator=_Untitled)


def _request(action: Action, model: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a request of an action looks like: its name, and the model's fields."""
    fields, required = dict(model["properties"]), model.get("required", [])
    # A command that takes no further fields takes no empty ones either.
    is_closed = model.get("additionalProperties") is False
    properties = {
        name: _described(name, _given(schema) if is_closed or name in required else _optional(schema))
        for name, schema in fields.items()
    }
    request = {
        "type": "object",
        "description": ACTIONS[action],
        # Importers that read no `const` read `enum`.
        "properties": {"action": {"type": "string", "const": action.value, "enum": [action.value]}, **properties},
        "required": ["action", *required],
    }
    if is_closed:
        return {**request, "propertyNames": {"enum": ["action", "key", *fields]}}
    return {**request, **_FORWARDED} if model.get("additionalProperties") else request


# Further fields travel on to the panel (contract 4).
_FORWARDED: Schema = {
    "propertyNames": {"pattern": r"^[A-Za-z0-9_.\-]{1,64}$"},
    "additionalProperties": {
        "type": ["string", "number", "boolean", "null"],
        "description": "A field for the panel.",
    },
}


def _described(name: str, schema: Schema) -> dict[str, Any]:
    text = _FIELDS.get(name)
    return {**schema, "description": text} if text else dict(schema)


def _given(schema: Schema) -> dict[str, Any]:
    """Return the schema of a field that is never empty."""
    branches = [branch for branch in _branches(schema) if branch not in _EMPTY]
    return dict(branches[0]) if len(branches) == 1 else {"anyOf": branches}


def _optional(schema: Schema) -> dict[str, Any]:
    """Return the schema of a field that counts as not given when it is null or empty."""
    kept = {name: value for name, value in schema.items() if name not in {"anyOf", "default"}}
    branches = [branch for branch in _branches(schema) if branch not in _EMPTY]
    return {"anyOf": [*branches, *_EMPTY], **(kept if "anyOf" in schema else {})}


def _scalar(schema: Schema) -> dict[str, Any]:
    """Return what of a schema can stand in a query as one word."""
    given = _branches(_given(schema))
    branches = [branch for branch in given if branch.get("type") != "array"] or given
    return dict(branches[0]) if len(branches) == 1 else {"anyOf": branches}


def _branches(schema: Schema) -> list[Schema]:
    plain: Schema = {name: value for name, value in schema.items() if name != "default"}
    branches: list[Schema] = schema.get("anyOf", [plain])
    return branches
