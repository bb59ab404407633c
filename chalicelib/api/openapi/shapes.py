"""The shapes of what the API answers, by name: JSON Schemas written by hand, after contract 3 and 4.

They are closed: panel software trips over a key that it does not know (protocol.md 2).
"""

from collections.abc import Mapping
from typing import Any, get_args

from chalicelib.errors import Code
from chalicelib.fields import ListedStatus
from chalicelib.model import MAX_ID, MIN_ORDER_ID, RefillStatus

Schema = Mapping[str, Any]


def ref(name: str) -> dict[str, str]:
    """Return a reference to a schema among the components."""
    return {"$ref": f"#/components/schemas/{name}"}


def closed(properties: Mapping[str, Schema], *, optional: Mapping[str, Schema] | None = None) -> dict[str, Any]:
    """Return an object that has these properties and no others."""
    return {
        "type": "object",
        "properties": {**properties, **(optional or {})},
        "required": list(properties),
        "additionalProperties": False,
    }


def either(*schemas: Schema) -> dict[str, Any]:
    """Return what is at least one of the schemas."""
    return {"anyOf": list(schemas)}


def _list(item: Schema, *, least: int = 1) -> dict[str, Any]:
    return {"type": "array", "items": item, "minItems": least}


_TEXT: Schema = {"type": "string"}
_FLAG: Schema = {"type": "boolean"}
_NUMBER: Schema = {"type": "number"}
_TIME: Schema = {"type": "string", "format": "date-time"}
_CURRENCY: Schema = {"type": "string", "pattern": "^[A-Z]{3,5}$"}
_COUNT_TEXT: Schema = {"type": "string", "pattern": "^-?[0-9]+$"}
_AMOUNT_TEXT: Schema = {"type": "string", "pattern": r"^-?[0-9]+(\.[0-9]+)?$"}
_COUNT_OR_NULL: Schema = {"type": ["integer", "null"]}
_SERVICE_ID: Schema = {"type": "integer", "minimum": 0, "maximum": MAX_ID}
# Orders and refills of ours (contract 7).
_OWN_ID: Schema = {"type": "integer", "minimum": MIN_ORDER_ID, "maximum": MAX_ID}
# What somebody asked for may be anything.
_ASKED_ID: Schema = {"type": ["integer", "string"]}

_SERVICE: Schema = {
    "service": _SERVICE_ID,
    "name": _TEXT,
    "type": _TEXT,
    "category": _TEXT,
    "min": _COUNT_TEXT,
    "max": _COUNT_TEXT,
    "refill": _FLAG,
    "cancel": _FLAG,
    "dripfeed": _FLAG,
}
_RATE: Schema = {"rate": {**_AMOUNT_TEXT, "description": "the price per 1000"}}
_SERVICE_EXTRAS: Schema = dict.fromkeys(("description", "drop_rate", "start_time", "speed", "reliability"), _TEXT)

_PROGRESS: Schema = {
    "order": _OWN_ID,
    "status": {"enum": [status.value for status in get_args(ListedStatus)]},
    "start_count": _COUNT_OR_NULL,
    "remains": _COUNT_OR_NULL,
    "currency": _CURRENCY,
    "updated_at": _TIME,
    "stale": {**_FLAG, "description": "the panel could not be asked just now; this is what it said last"},
}
# Browser tokens without `prices` do not see these (contract 4).
_CHARGE: Schema = {"charge": {**_NUMBER, "description": "what you paid, less refunds; not for tokens without `prices`"}}
_CHARGED: Schema = {"charged": {**_NUMBER, "description": "what you pay; not for tokens without `prices`"}}

_CHILDREN: Schema = {
    "orders": {
        "type": "array",
        "items": _OWN_ID,
        "description": "a subscription's orders so far; each has a status of its own",
    }
}


def _batch(field: str, item: str, asked: str) -> dict[str, Any]:
    """Return the answer to a batch: for each id either what a single question is answered, or an error."""
    failed = closed({asked: _ASKED_ID, "error": _TEXT, "code": ref("Code")})
    return closed({field: _list(either(ref(item), failed))})


V3: Mapping[str, Schema] = {
    "Balance": closed({"balance": _NUMBER, "currency": _CURRENCY}),
    "Service": closed(_SERVICE, optional={**_RATE, **_SERVICE_EXTRAS}),
    "Services": _list(ref("Service"), least=0),
    "Added": closed({"order": _OWN_ID}, optional=_CHARGED),
    "AddedUnconfirmed": closed({"order": _OWN_ID, "pending_confirmation": {"const": True}}, optional=_CHARGED),
    "Status": closed(_PROGRESS, optional={**_CHARGE, **_CHILDREN}),
    "Statuses": _batch("orders", "Status", "order"),
    "Refill": closed({"order": _OWN_ID, "refill": _OWN_ID, "success": {"const": "Refill request accepted."}}),
    "Refills": _batch("orders", "Refill", "order"),
    "RefillStatus": closed({"refill": _OWN_ID, "status": {"enum": [status.value for status in RefillStatus]}}),
    "RefillStatuses": _batch("refills", "RefillStatus", "refill"),
    "Cancel": closed({"order": _OWN_ID, "success": {"const": "Cancellation request accepted."}}),
    "Cancels": _batch("orders", "Cancel", "order"),
    "Order": closed(
        {
            **_PROGRESS,
            "service": _SERVICE_ID,
            "link": {"type": ["string", "null"]},
            "quantity": _COUNT_OR_NULL,
            "created_at": _TIME,
            "idempotency_key": {"type": ["string", "null"]},
        },
        optional={**_CHARGE, **_CHILDREN},
    ),
    "Orders": closed({"orders": _list(ref("Order"), least=0), "next": {"type": ["string", "null"]}}),
    "Issued": closed({"token": {"type": "string", "pattern": "^pgb_[0-9A-Za-z_-]+$"}, "expires_at": _TIME}),
    "Code": {"enum": [code.value for code in Code]},
}

_V2_REFILL_STATUS: Schema = {"enum": ["Pending", "In progress", "Completed", "Rejected"]}
_V2_ORDER_STATUS = ("Pending", "In progress", "Processing", "Completed", "Partial", "Canceled", "Refunded")
_V2_SUBSCRIPTION_STATUS = ("Active", "Paused", "Completed", "Expired", "Canceled")

V2: Mapping[str, Schema] = {
    "V2Balance": closed({"balance": _AMOUNT_TEXT, "currency": _CURRENCY}),
    "V2Service": closed({**_SERVICE, **_RATE}),
    "V2Services": _list(ref("V2Service"), least=0),
    "V2Added": closed({"order": _OWN_ID}),
    "V2Status": closed(
        {
            "charge": _AMOUNT_TEXT,
            "start_count": _COUNT_TEXT,
            "status": {"enum": [*_V2_ORDER_STATUS]},
            "remains": _COUNT_TEXT,
            "currency": _CURRENCY,
        }
    ),
    "V2Subscription": closed(
        {
            "status": {"enum": [*_V2_SUBSCRIPTION_STATUS]},
            "expiry": {"type": ["string", "null"]},
            "posts": _COUNT_TEXT,
            **_CHILDREN,
        }
    ),
    "V2Statuses": {
        "type": "object",
        "description": "by the order's id",
        "additionalProperties": either(ref("V2Status"), ref("V2Subscription"), ref("V2Error")),
        "minProperties": 1,
    },
    "V2Refill": closed({"refill": {"type": "string", "pattern": "^[0-9]+$"}}),
    "V2Refills": _list(closed({"order": _ASKED_ID, "refill": either(_OWN_ID, ref("V2Error"))})),
    "V2RefillStatus": closed({"status": _V2_REFILL_STATUS}),
    "V2RefillStatuses": _list(closed({"refill": _ASKED_ID, "status": either(_V2_REFILL_STATUS, ref("V2Error"))})),
    "V2Cancels": _list(closed({"order": _ASKED_ID, "cancel": either({"const": 1}, ref("V2Error"))})),
}
