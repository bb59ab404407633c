"""mysticsmm: JSON in, numbers out, HTTP codes that mean something, and two forms of error.

"Our API follows the standard SMM panel protocol", says its document, and then differs in most of it.
"""

from collections.abc import Mapping
from types import MappingProxyType

from sandbox import money
from sandbox.dialect import Action
from sandbox.jsonbody import is_number, read_call
from sandbox.messages import Call, PanelError, Problem, Reply, Request
from sandbox.orders import Order, Stage
from sandbox.panel import Panel
from sandbox.services import Service

STATUSES = MappingProxyType(
    {
        Stage.PENDING: "PENDING",
        Stage.PROCESSING: "PROCESSING",
        Stage.IN_PROGRESS: "IN_PROGRESS",
        Stage.COMPLETED: "COMPLETED",
        Stage.PARTIAL: "PARTIAL",
        Stage.CANCELED: "CANCELLED",
        Stage.FAILED: "CANCELLED",
        Stage.REFUNDED: "CANCELLED",
    }
)
"""The document has no word for a failure: such an order is cancelled, with remains 0 and a full refund."""

QUANTITY = "Quantity must be between {min} and {max}"

# "400: Invalid quantity, missing parameters, or validation error". The 429 has no example.
SENTENCES = MappingProxyType(
    {
        Problem.NOT_READABLE: (400, "Invalid JSON body"),
        Problem.WRONG_METHOD: (405, "Method not allowed"),
        Problem.BAD_KEY: (401, "Invalid API key"),
        Problem.BAD_ACTION: (400, "Invalid action"),
        Problem.BAD_REQUEST: (400, "Missing required parameters"),
        Problem.BAD_LINK: (400, "Invalid link"),
        Problem.DUPLICATE_LINK: (
            400,
            "You have active order with this link. Please wait until order being completed.",
        ),
        Problem.BAD_QUANTITY: (400, "Invalid quantity"),
        Problem.QUANTITY_LOW: (400, QUANTITY),
        Problem.QUANTITY_HIGH: (400, QUANTITY),
        Problem.NO_FUNDS: (400, "Insufficient balance in wallet."),
        Problem.BAD_ORDER: (400, "Order not found"),
        Problem.TOO_FAST: (429, "Too many requests"),
    }
)

SERVICE_NOT_FOUND = MappingProxyType(
    {"success": False, "name": "SERVICE_NOT_FOUND", "message": "Service not found or unauthorized"}
)


class Mysticsmm:
    """The panel's manners."""

    def __init__(self) -> None:
        self.actions = ACTIONS

    def read(self, request: Request) -> Call:
        """Read a POST with a JSON body, which holds the key as well."""
        return read_call(request)

    def refuse(self, _panel: Panel, error: PanelError) -> Reply:
        """Say no: "service not found" has a status and a form of its own, everything else is an `error`."""
        if error.problem is Problem.BAD_SERVICE:
            return Reply(dict(SERVICE_NOT_FOUND), 500)
        status, sentence = SENTENCES[error.problem]
        return Reply({"error": sentence.format(**error.facts)}, status)

    def complain(self, sentence: str) -> Reply:
        """Any other sentence is a bad request."""
        return Reply({"error": sentence}, 400)


def _services(panel: Panel, _call: Call) -> Reply:
    return Reply([_listed(service) for service in panel.services.values()])


def _listed(service: Service) -> dict[str, object]:
    return {
        "service": service.id,
        "name": service.name,
        "category": service.category,
        "rate": service.rate,
        "min": service.min,
        "max": service.max,
        "refill": service.refill,
        "cancel": service.cancel,
        "dripfeed": bool(service.dripfeed),
        "currency": "USD",
    }


def _add(panel: Panel, call: Call) -> Reply:
    # The table says number for service and quantity. Fields it does not list, `runs` among them, do nothing.
    if not is_number(call.fields.get("service")):
        raise PanelError(Problem.BAD_REQUEST)
    panel.service(call.text("service"))
    if not is_number(call.fields.get("quantity")):
        raise PanelError(Problem.BAD_QUANTITY)
    order = panel.place({name: call.text(name) for name in ("service", "link", "quantity")})
    return Reply({"order": order.id}, 201, order.id)


def _status(panel: Panel, call: Call) -> Reply:
    if "order" not in call.fields:
        raise PanelError(Problem.BAD_REQUEST)
    return Reply(_standing(panel.order(call.text("order"))))


def _standing(order: Order) -> dict[str, object]:
    standing: dict[str, object] = {
        # "Amount charged for this order": a refund does not change it.
        "charge": money.with_cents(order.charge),
        "status": STATUSES.get(order.stage, "PENDING"),
        "currency": "USD",
    }
    if order.start_count is not None:
        standing["start_count"] = order.start_count
    if order.remains is not None:
        standing["remains"] = 0 if order.stage in (Stage.FAILED, Stage.REFUNDED) else order.remains
    return standing | order.shown


def _balance(panel: Panel, _call: Call) -> Reply:
    return Reply({"balance": f"{money.with_cents(panel.funds()):f}", "currency": "USD"})


ACTIONS: Mapping[str, Action] = MappingProxyType(
    {"services": _services, "add": _add, "status": _status, "balance": _balance}
)
