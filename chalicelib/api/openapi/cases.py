"""One table of examples: what somebody asks, and what either version answers.

A case says more than its words: the shapes that it names are those that its action answers with, and it counts only
where the action's command has all the fields that it asks with.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from chalicelib.actions import Action
from chalicelib.commands import COMMANDS
from chalicelib.errors import Code


@dataclass(frozen=True, slots=True)
class Answered:
    """An answer: the name of its shape, the answer itself, and its HTTP status."""

    shape: str
    body: Any
    status: int = 200


@dataclass(frozen=True, slots=True)
class Case:
    """A question to either version, and the answers; None where a version does not answer it, or not like this."""

    name: str
    summary: str
    action: Action
    fields: Mapping[str, Any]
    v2: Answered | None
    v3: Answered | None

    @property
    def offered(self) -> bool:
        """Whether the gateway can be asked this."""
        return self.action in COMMANDS and self.fields.keys() <= COMMANDS[self.action].model_fields.keys()

    @property
    def words(self) -> Mapping[str, Any]:
        """The fields as forms have them: a list is joined by commas."""
        return {
            name: ",".join(map(str, value)) if isinstance(value, list) else value for name, value in self.fields.items()
        }


LINK = "https://instagram.com/p/Cx4kQ2bLm1A"
ORDER, OTHER, NONE = 1873254901, 1402937718, 1000003
REFILL, OTHER_REFILL = 1600481275, 1218890346

_ROW = {
    "service": 1002,
    "name": "Followers",
    "type": "Default",
    "category": "First Category",
    "rate": "0.99",
    "min": "50",
    "max": "10000",
    "refill": True,
    "cancel": True,
    "dripfeed": False,
}
_V2_STATUS = {
    "charge": "0.099",
    "start_count": "3572",
    "status": "In progress",
    "remains": "57",
    "currency": "USD",
}
_STATUS = {
    "order": ORDER,
    "status": "in_progress",
    "start_count": 3572,
    "remains": 57,
    "charge": 0.099,
    "currency": "USD",
    "updated_at": "2027-01-15T08:00:00.000Z",
    "stale": False,
}
_NO_ORDER, _NO_REFILL = {"error": "Incorrect order ID"}, {"error": "Refill not found"}
_V3_NO_ORDER = {"order": NONE, "error": "Incorrect order ID", "code": Code.ORDER_NOT_FOUND.value}
_V3_NO_REFILL = {"refill": NONE, "error": "Refill not found", "code": Code.REFILL_NOT_FOUND.value}
_REFILLED = {"order": ORDER, "refill": REFILL, "success": "Refill request accepted."}
_CANCELED = {"order": ORDER, "success": "Cancellation request accepted."}
_ADD = {"service": 1002, "link": LINK, "quantity": 100}
_TOKEN = "pgb_acme_3kQ9ZtW1_0000000000000000000000000000000000000000000example"  # noqa: S105 - not even well formed

CASES: Sequence[Case] = (
    Case(
        name="balance",
        summary="What money there is",
        action=Action.BALANCE,
        fields={},
        v2=Answered("V2Balance", {"balance": "100.84292", "currency": "USD"}),
        v3=Answered("Balance", {"balance": 100.84292, "currency": "USD"}),
    ),
    Case(
        name="services",
        summary="What can be ordered",
        action=Action.SERVICES,
        fields={},
        v2=Answered("V2Services", [_ROW]),
        v3=Answered("Services", [{**_ROW, "start_time": "0-1 hour", "speed": "5K a day"}]),
    ),
    Case(
        name="add",
        summary="Order",
        action=Action.ADD,
        fields=_ADD,
        v2=Answered("V2Added", {"order": ORDER}),
        v3=Answered("Added", {"order": ORDER, "charged": 0.099}),
    ),
    Case(
        name="add_unconfirmed",
        summary="Order once, at no more than this price; whether the panel took it is not known yet",
        action=Action.ADD,
        fields={**_ADD, "max_charge": 0.1, "idempotency_key": "order-5021"},
        v2=None,
        v3=Answered("AddedUnconfirmed", {"order": ORDER, "charged": 0.099, "pending_confirmation": True}, 202),
    ),
    Case(
        name="add_drip_feed",
        summary="Order 100 every 60 minutes, 5 times",
        action=Action.ADD,
        fields={**_ADD, "runs": 5, "interval": 60},
        v2=Answered("V2Added", {"order": OTHER}),
        v3=Answered("Added", {"order": OTHER, "charged": 0.495}),
    ),
    Case(
        name="add_comments",
        summary="Order one comment a line",
        action=Action.ADD,
        fields={"service": 2002, "link": LINK, "comments": "Great shot!\nWhere is this?"},
        v2=Answered("V2Added", {"order": OTHER}),
        v3=Answered("Added", {"order": OTHER, "charged": 0.0176}),
    ),
    Case(
        name="add_package",
        summary="Order a package, at its fixed price",
        action=Action.ADD,
        fields={"service": 4002, "link": LINK},
        v2=Answered("V2Added", {"order": OTHER}),
        v3=Answered("Added", {"order": OTHER, "charged": 4.95}),
    ),
    Case(
        name="add_subscription",
        summary="Order 20 to 30 for each of the next 5 posts; each makes an order of its own",
        action=Action.ADD,
        fields={"service": 10002, "username": "star", "min": 20, "max": 30, "posts": 5, "delay": 0},
        v2=Answered("V2Added", {"order": OTHER}),
        v3=Answered("Added", {"order": OTHER, "charged": 0.05775}),
    ),
    Case(
        name="status",
        summary="How one order is doing",
        action=Action.STATUS,
        fields={"order": ORDER},
        v2=Answered("V2Status", _V2_STATUS),
        v3=Answered("Status", _STATUS),
    ),
    Case(
        name="status_subscription",
        summary="How a subscription is doing, and which orders it has made so far",
        action=Action.STATUS,
        fields={"order": OTHER},
        v2=Answered("V2Subscription", {"status": "Active", "expiry": None, "posts": "1", "orders": [ORDER]}),
        v3=Answered(
            "Status",
            {**_STATUS, "order": OTHER, "start_count": None, "remains": None, "charge": 0.0462, "orders": [ORDER]},
        ),
    ),
    Case(
        name="status_batch",
        summary="How several orders are doing",
        action=Action.STATUS,
        fields={"orders": [ORDER, NONE]},
        v2=Answered("V2Statuses", {str(ORDER): _V2_STATUS, str(NONE): _NO_ORDER}),
        v3=Answered("Statuses", {"orders": [_STATUS, _V3_NO_ORDER]}),
    ),
    Case(
        name="refill",
        summary="Ask for a refill",
        action=Action.REFILL,
        fields={"order": ORDER},
        v2=Answered("V2Refill", {"refill": str(REFILL)}),
        v3=Answered("Refill", _REFILLED),
    ),
    Case(
        name="refill_batch",
        summary="Ask for refills of several orders",
        action=Action.REFILL,
        fields={"orders": [ORDER, NONE]},
        v2=Answered("V2Refills", [{"order": ORDER, "refill": REFILL}, {"order": NONE, "refill": _NO_ORDER}]),
        v3=Answered("Refills", {"orders": [_REFILLED, _V3_NO_ORDER]}),
    ),
    Case(
        name="refill_status",
        summary="How one refill is doing",
        action=Action.REFILL_STATUS,
        fields={"refill": REFILL},
        v2=Answered("V2RefillStatus", {"status": "Completed"}),
        v3=Answered("RefillStatus", {"refill": REFILL, "status": "completed"}),
    ),
    Case(
        name="refill_status_batch",
        summary="How several refills are doing",
        action=Action.REFILL_STATUS,
        fields={"refills": [REFILL, OTHER_REFILL, NONE]},
        v2=Answered(
            "V2RefillStatuses",
            [
                {"refill": REFILL, "status": "Completed"},
                {"refill": OTHER_REFILL, "status": "Rejected"},
                {"refill": NONE, "status": _NO_REFILL},
            ],
        ),
        v3=Answered(
            "RefillStatuses",
            {
                "refills": [
                    {"refill": REFILL, "status": "completed"},
                    {"refill": OTHER_REFILL, "status": "rejected"},
                    _V3_NO_REFILL,
                ]
            },
        ),
    ),
    Case(
        name="cancel",
        summary="Ask that one order be canceled",
        action=Action.CANCEL,
        fields={"order": ORDER},
        v2=Answered("V2Cancels", [{"order": ORDER, "cancel": 1}]),
        v3=Answered("Cancel", _CANCELED),
    ),
    Case(
        name="cancel_batch",
        summary="Ask that several orders be canceled",
        action=Action.CANCEL,
        fields={"orders": [ORDER, NONE]},
        v2=Answered("V2Cancels", [{"order": ORDER, "cancel": 1}, {"order": NONE, "cancel": _NO_ORDER}]),
        v3=Answered("Cancels", {"orders": [_CANCELED, _V3_NO_ORDER]}),
    ),
    Case(
        name="orders",
        summary="Your own orders, newest first",
        action=Action.ORDERS,
        fields={"limit": 1},
        v2=None,
        v3=Answered(
            "Orders",
            {
                "orders": [
                    {
                        **_STATUS,
                        "service": 1002,
                        "link": LINK,
                        "quantity": 100,
                        "created_at": "2027-01-15T07:58:12.481Z",
                        "idempotency_key": "order-5021",
                    }
                ],
                "next": "MTg3MzI1NDkwMQ",
            },
        ),
    ),
    Case(
        name="token",
        summary="A token for the page of one of your customers: ten minutes, two services, 5 USD in all, no prices",
        action=Action.TOKEN,
        fields={
            "actions": ["services", "add", "status", "orders"],
            "ttl": 600,
            "origin": "https://shop.example.com",
            "services": [1002, 2002],
            "max_charge": 5,
            "subject": "customer-17",
            "prices": False,
        },
        v2=None,
        v3=Answered("Issued", {"token": _TOKEN, "expires_at": "2027-01-15T08:10:00.000Z"}),
    ),
)

# A sentence for each code, as a caller may get it.
SENTENCES: Mapping[Code, str] = {
    Code.INVALID_REQUEST: "The field order is not right: a whole number is needed",
    Code.UNKNOWN_ACTION: "There is no such action",
    Code.INVALID_API_KEY: "Invalid API key",
    Code.INSUFFICIENT_FUNDS: "Not enough funds on balance",
    Code.SPEND_LIMIT_REACHED: "This would pass the day's spending limit; days end at midnight UTC",
    Code.FORBIDDEN: "This key may not use the action add",
    Code.SERVICE_NOT_FOUND: "There is no such service",
    Code.ORDER_NOT_FOUND: "Incorrect order ID",
    Code.REFILL_NOT_FOUND: "Refill not found",
    Code.REQUEST_IN_PROGRESS: "The first request with this key still runs",
    Code.PRICE_CHANGED: "The price is above max_charge",
    Code.DUPLICATE_LINK: "You have active order with this link. Please wait until order being completed.",
    Code.TOO_LARGE: "A request's body holds at most 256 KiB",
    Code.UNSUPPORTED_MEDIA_TYPE: "Send the request as application/json",
    Code.INVALID_LINK: "The link must be an http(s) URL, host/path or a user name, without spaces",
    Code.INVALID_QUANTITY: "Quantity less than minimal 50",
    Code.MISSING_FIELD: "The field link is missing",
    Code.NOT_SUPPORTED: "The action usage is not supported by this gateway",
    Code.IDEMPOTENCY_KEY_REUSED: "This idempotency key was used for another order",
    Code.ORDER_REFUSED: "The order was refused",
    Code.RATE_LIMITED: "Too many requests",
    Code.INTERNAL: "Something went wrong on our side",
    Code.SERVICE_UNAVAILABLE: "Service temporarily unavailable",
}
