"""smm.africa v3: JSON in, Bearer or `key`, numbers out, refill and cancel one order at a time without ids.

Its document shows one status spelled "Processing" and lists the others in lower case; it names HTTP 202 and 429 and
no other code, so errors come at 200.
"""

from collections.abc import Mapping
from types import MappingProxyType

from sandbox import money
from sandbox.dialect import Action
from sandbox.jsonbody import read_call
from sandbox.messages import Call, PanelError, Problem, Reply, Request
from sandbox.orders import Order, Stage
from sandbox.panel import Panel
from sandbox.services import Service

STATUSES = MappingProxyType(
    {
        Stage.PENDING: "pending",
        Stage.PROCESSING: "Processing",
        Stage.IN_PROGRESS: "Processing",
        Stage.COMPLETED: "completed",
        Stage.PARTIAL: "partial",
        Stage.CANCELED: "canceled",
        Stage.FAILED: "refunded",
        Stage.REFUNDED: "refunded",
    }
)

SENTENCES = MappingProxyType(
    {
        Problem.NOT_READABLE: "Invalid request",
        Problem.WRONG_METHOD: "Invalid request",
        Problem.BAD_KEY: "Invalid API key",
        Problem.BAD_ACTION: "Invalid action",
        Problem.BAD_REQUEST: "Invalid request",
        Problem.BAD_SERVICE: "Incorrect service ID",
        Problem.BAD_LINK: "Incorrect link",
        Problem.DUPLICATE_LINK: "You have active order with this link. Please wait until order being completed.",
        Problem.BAD_QUANTITY: "Incorrect quantity",
        Problem.QUANTITY_LOW: "Quantity less than minimal {min}",
        Problem.QUANTITY_HIGH: "Quantity more than maximum {max}",
        Problem.NO_FUNDS: "Insufficient balance",
        Problem.BAD_ORDER: "Order not found",
        Problem.NOT_REFILLABLE: "Order not eligible for refill.",
        Problem.NOT_CANCELABLE: "Order cannot be canceled",
        Problem.TOO_FAST: "Too many requests",
    }
)

BEARER = "bearer "
PURCHASE = ("service", "link", "quantity", "goal_key", "recommendation_tier", "user_intent_label", "source_flow")


class Smmafrica:
    """The panel's manners."""

    def __init__(self) -> None:
        self.actions = ACTIONS

    def read(self, request: Request) -> Call:
        """The curl example sends `Authorization: Bearer` and no key; the tables list `key`. Both open."""
        return read_call(request, _bearer(request))

    def refuse(self, _panel: Panel, error: PanelError) -> Reply:
        """An error is a sentence; "back off on 429 responses"."""
        status = 429 if error.problem is Problem.TOO_FAST else 200
        return Reply({"error": SENTENCES[error.problem].format(**error.facts)}, status)

    def complain(self, sentence: str) -> Reply:
        """The same with any sentence."""
        return Reply({"error": sentence})


def _bearer(request: Request) -> str:
    value = request.headers.get("authorization", "")
    return value[len(BEARER) :].strip() if value.lower().startswith(BEARER) else ""


def _services(panel: Panel, _call: Call) -> Reply:
    return Reply([_listed(service) for service in panel.services.values()])


def _listed(service: Service) -> dict[str, object]:
    extras = dict(service.extras)
    return {
        "service": service.id,
        "name": service.name,
        "rate": f"{service.rate:f}",
        "min": str(service.min),
        "max": str(service.max),
        "category": service.category,
        "description": extras.pop("description", ""),
        "refill": service.refill,
        "cancel": service.cancel,
        **extras,
    }


def _add(panel: Panel, call: Call) -> Reply:
    order = panel.place({name: call.text(name) for name in PURCHASE if name in call.fields})
    return Reply({"order": order.id, "charged": money.plain(order.charge)}, order=order.id)


def _status(panel: Panel, call: Call) -> Reply:
    return Reply(_standing(panel.order(call.text("order"))))


def _standing(order: Order) -> dict[str, object]:
    # The document promises that "status polling always returns the same response shape".
    return {
        "order": order.id,
        "status": _status_word(order),
        "start_count": order.start_count or 0,
        "remains": order.left,
        "charge": money.plain(order.charge),
        **order.shown,
    }


def _status_word(order: Order) -> str:
    if order.unconfirmed and order.stage is Stage.PENDING:
        return "queued"
    return STATUSES.get(order.stage, "unknown")


def _refill(panel: Panel, call: Call) -> Reply:
    refill = panel.refill(call.text("order"))
    return Reply({"order": refill.order, "success": "Refill request accepted."})


def _cancel(panel: Panel, call: Call) -> Reply:
    order = panel.cancel(call.text("order"))
    return Reply({"order": order.id, "success": "Cancellation request accepted."})


def _balance(panel: Panel, _call: Call) -> Reply:
    return Reply({"balance": money.plain(panel.funds()), "currency": "USD"})


ACTIONS: Mapping[str, Action] = MappingProxyType(
    {
        "balance": _balance,
        "services": _services,
        "add": _add,
        "status": _status,
        "refill": _refill,
        "cancel": _cancel,
    }
)
