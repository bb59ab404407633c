"""The PerfectPanel family (smosale, smmrich, smmleaf): form in, strings out, HTTP 200 to everything.

The three documents are one document. smmrich and smmleaf lack its "Create cancel", although their example services
say `"cancel": true`.
"""

from collections.abc import Callable, Iterable, Mapping
from types import MappingProxyType
from urllib.parse import parse_qsl

from sandbox import money
from sandbox.dialect import Action
from sandbox.messages import Call, PanelError, Problem, Reply, Request
from sandbox.orders import Order, Stage
from sandbox.panel import Panel, is_id
from sandbox.services import Service

MAX_IDS = 100
"""The documents: "Order IDs (separated by a comma, up to 100 IDs)"."""

FORM = "application/x-www-form-urlencoded"

STATUSES = MappingProxyType(
    {
        Stage.PENDING: "Pending",
        Stage.PROCESSING: "Processing",
        Stage.IN_PROGRESS: "In progress",
        Stage.COMPLETED: "Completed",
        Stage.PARTIAL: "Partial",
        Stage.CANCELED: "Canceled",
        Stage.FAILED: "Fail",
        Stage.REFUNDED: "Refunded",
        Stage.ACTIVE: "Active",
        Stage.PAUSED: "Paused",
        Stage.EXPIRED: "Expired",
    }
)

SENTENCES = MappingProxyType(
    {
        Problem.NOT_READABLE: "Incorrect request",
        Problem.WRONG_METHOD: "Incorrect request",
        Problem.BAD_KEY: "Invalid API key",
        Problem.BAD_ACTION: "Incorrect action",
        Problem.BAD_REQUEST: "Incorrect request",
        Problem.BAD_SERVICE: "Incorrect service ID",
        Problem.BAD_LINK: "Incorrect link",
        Problem.DUPLICATE_LINK: "You have active order with this link. Please wait until order being completed.",
        Problem.BAD_QUANTITY: "Incorrect quantity",
        Problem.QUANTITY_LOW: "Quantity less than minimal {min}",
        Problem.QUANTITY_HIGH: "Quantity more than maximum {max}",
        Problem.NO_FUNDS: "Not enough funds on balance",
        Problem.BAD_ORDER: "Incorrect order ID",
        Problem.BAD_REFILL: "Refill not found",
        Problem.NOT_REFILLABLE: "Order not eligible for refill.",
        Problem.NOT_CANCELABLE: "Order cannot be canceled",
        Problem.TOO_FAST: "Too many requests",
    }
)

LANGUAGE_KEYS = MappingProxyType(
    {
        Problem.BAD_SERVICE: "error.incorrect_service_id",
        Problem.BAD_LINK: "neworder.error.link",
        Problem.DUPLICATE_LINK: "neworder.error.link_duplicate",
        Problem.QUANTITY_LOW: "neworder.error.min_quantity",
        Problem.QUANTITY_HIGH: "neworder.error.max_quantity",
        Problem.NO_FUNDS: "neworder.error.not_enough_funds",
    }
)
"""Only those that several independent programs know."""


class Template:
    """The family's manners, with the actions that a panel's own document lists."""

    def __init__(self, actions: Mapping[str, Action]) -> None:
        self.actions = actions

    def read(self, request: Request) -> Call:
        """Read form and query, as PHP's `$_REQUEST`; a JSON body is not seen at all."""
        fields = dict(_pairs(request.query))
        if request.headers.get("content-type", "").partition(";")[0].strip().lower() == FORM:
            fields.update(_pairs(request.body.decode(errors="replace")))
        return Call(fields.get("key", ""), fields.get("action", ""), fields)

    def refuse(self, panel: Panel, error: PanelError) -> Reply:
        """An error is a sentence at HTTP 200; only a rate limit shows in the status."""
        status = 429 if error.problem is Problem.TOO_FAST else 200
        return Reply({"error": _sentence(panel, error)}, status)

    def complain(self, sentence: str) -> Reply:
        """The same with any sentence."""
        return Reply({"error": sentence})


def _pairs(text: str) -> Iterable[tuple[str, str]]:
    return ((name, value.strip()) for name, value in parse_qsl(text, keep_blank_values=True))


def _sentence(panel: Panel, error: PanelError) -> str:
    if panel.settings.language_keys and error.problem in LANGUAGE_KEYS:
        return LANGUAGE_KEYS[error.problem]
    return SENTENCES[error.problem].format(**error.facts)


def _services(panel: Panel, _call: Call) -> Reply:
    return Reply([_listed(service) for service in panel.services.values()])


def _listed(service: Service) -> dict[str, object]:
    return service.as_record() | {"min": str(service.min), "max": str(service.max)}


def _add(panel: Panel, call: Call) -> Reply:
    order = panel.place({name: call.text(name) for name in call.fields if name not in ("key", "action")})
    return Reply({"order": order.id}, order=order.id)


def _status(panel: Panel, call: Call) -> Reply:
    if "orders" not in call.fields:
        return Reply(_standing(panel, call.text("order")))
    return Reply({number: _or_error(panel, _standing, number) for number in _ids(call, "orders")})


def _standing(panel: Panel, number: str) -> dict[str, object]:
    order = panel.order(number)
    return (_subscribed(order) if order.subscription else _delivered(order)) | order.shown


def _delivered(order: Order) -> dict[str, object]:
    return {
        # What was paid back is no longer charged: a canceled or failed order shows "0".
        "charge": f"{money.plain(order.charge - order.refunded):f}",
        "start_count": str(order.start_count or 0),
        "status": STATUSES[order.stage],
        "remains": str(order.left),
        "currency": "USD",
    }


def _subscribed(order: Order) -> dict[str, object]:
    # No document shows a subscription's status; this is the SmartPanel family's, as server and as client.
    subscription = order.subscription
    children = subscription.children if subscription else []
    return {
        "status": STATUSES[order.stage],
        "expiry": subscription.expiry_text() if subscription else None,
        "posts": str(len(children)),
        "orders": children,
    }


def _refill(panel: Panel, call: Call) -> Reply:
    if "orders" not in call.fields:
        # One refill is a string, one of several is a number: the documents say so.
        return Reply({"refill": str(panel.refill(call.text("order")).id)})
    return Reply(_batch(panel, _ids(call, "orders"), "order", "refill", _request_refill))


def _request_refill(panel: Panel, number: str) -> int:
    return panel.refill(number).id


def _refill_status(panel: Panel, call: Call) -> Reply:
    if "refills" not in call.fields:
        return Reply({"status": panel.refill_status(call.text("refill"))})
    return Reply(_batch(panel, _ids(call, "refills"), "refill", "status", Panel.refill_status))


def _cancel(panel: Panel, call: Call) -> Reply:
    return Reply(_batch(panel, _ids(call, "orders"), "order", "cancel", _request_cancel))


def _request_cancel(panel: Panel, number: str) -> int:
    panel.cancel(number)
    return 1


def _balance(panel: Panel, _call: Call) -> Reply:
    return Reply({"balance": f"{money.plain(panel.funds()):f}", "currency": "USD"})


Lookup = Callable[[Panel, str], object]


def _batch(panel: Panel, ids: list[str], name: str, result: str, lookup: Lookup) -> list[dict[str, object]]:
    return [
        {name: int(number) if is_id(number) else number, result: _or_error(panel, lookup, number)} for number in ids
    ]


def _or_error(panel: Panel, lookup: Lookup, number: str) -> object:
    try:
        return lookup(panel, number)
    except PanelError as error:
        return {"error": _sentence(panel, error)}


def _ids(call: Call, name: str) -> list[str]:
    ids = [number.strip() for number in call.text(name).split(",")]
    if len(ids) > MAX_IDS or not any(ids):
        raise PanelError(Problem.BAD_REQUEST)
    return ids


WITHOUT_CANCEL: Mapping[str, Action] = MappingProxyType(
    {
        "services": _services,
        "add": _add,
        "status": _status,
        "refill": _refill,
        "refill_status": _refill_status,
        "balance": _balance,
    }
)
EVERYTHING: Mapping[str, Action] = MappingProxyType({**WITHOUT_CANCEL, "cancel": _cancel})
