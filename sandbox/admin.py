"""The strings behind the scenes, under `/_admin/`: JSON in, JSON out, no key.

| request                              | does                                                                         |
|--------------------------------------|------------------------------------------------------------------------------|
| `GET /_admin/`                       | health, the panels and the names of all faults                               |
| `GET /_admin/<slug>/`                | the panel's keys, balance, settings, faults and counts                       |
| `GET …/faults`                       | the faults ordered and not yet used up                                       |
| `POST …/faults`                      | order one, see below; several queue up                                       |
| `DELETE …/faults`                    | end all faults                                                               |
| `GET …/requests?action=…&since=…`    | the log; `since` leaves out sequences up to that one                         |
| `DELETE …/requests`                  | empty the log                                                                |
| `GET …/orders`, `GET …/orders/<id>`  | orders as they stand now                                                     |
| `POST …/orders/<id>`                 | set `status`, `remains`, `start_count`, `charge`, and stop its time          |
| `PUT …/keys`                         | `{"keys": […]}`: the valid ones                                              |
| `PUT …/balance`                      | `{"balance": "12.5"}`                                                        |
| `PUT …/customers/<name>`             | `{"keys": […], "balance": "12.5"}`: one more account, with orders of its own |
| `GET …/services`, `POST …/services`  | the catalog; an array of services replaces it                                |
| `GET …/settings`, `PUT …/settings`   | any of `rate_limit`, `refuse_duplicate_links`, `language_keys`: true or false|
| `POST …/reset`                       | back to the first day: everything, the log and the settings included         |

A fault is `{"fault": name}` with, if wanted, `action` (any), `count` (until ended), `seconds` (the fault's own),
`processed` and `value` (see `sandbox.faults`). The first that meets a call's action is applied, one per call.

An order put at a status that ends it is paid back by the usual rule. A status that no document lists, and remains or a
start count that is no whole number, are shown as they are.
"""

import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, fields
from decimal import Decimal, InvalidOperation
from types import MappingProxyType
from typing import Any
from urllib.parse import parse_qsl

from sandbox import money
from sandbox.faults import FAULTS, ActiveFault
from sandbox.messages import PanelError, Reply, Request
from sandbox.orders import Order, Stage, outcome_of
from sandbox.panel import Customer, Panel, is_id
from sandbox.services import service_from

PREFIX = "/_admin/"


class AdminError(Exception):
    """A wrong use of this API."""

    def __init__(self, sentence: str, status: int = 400) -> None:
        super().__init__(sentence)
        self.status = status


@dataclass(frozen=True)
class Wish:
    """One admin request, taken apart."""

    panel: Panel
    item: str
    query: Mapping[str, str]
    body: Any

    def object(self) -> dict[str, Any]:
        """The body, which must be a JSON object."""
        if not isinstance(self.body, dict):
            raise AdminError("the body must be a JSON object")
        return self.body


Handler = Callable[[Wish], object]


def answer(panels: Mapping[str, Panel], request: Request) -> Reply:
    """Answer a request under `/_admin/`."""
    try:
        return Reply(_answer(panels, request))
    except AdminError as error:
        return Reply({"error": str(error)}, error.status)


def _answer(panels: Mapping[str, Panel], request: Request) -> object:
    slug, _, rest = request.path.removeprefix(PREFIX).partition("/")
    if not slug:
        return _overview(panels)
    if slug not in panels:
        raise AdminError(f"no panel {slug!r}; there are {', '.join(panels)}", 404)
    resource, _, item = rest.rstrip("/").partition("/")
    handler = HANDLERS.get((request.method, f"{resource}/ID" if item else resource))
    if handler is None:
        raise AdminError(f"nothing answers {request.method} {request.path}", 404)
    wish = Wish(panels[slug], item, dict(parse_qsl(request.query)), _json(request.body))
    with wish.panel.lock:
        # Looking at orders moves them on, too, so every request here may be a change.
        wish.panel.touched = True
        return handler(wish)


def _json(body: bytes) -> object:
    try:
        return json.loads(body) if body else None
    except (ValueError, RecursionError):
        raise AdminError("the body is no JSON") from None


def _overview(panels: Mapping[str, Panel]) -> object:
    listed = [{"slug": slug, "path": panel.profile.path} for slug, panel in panels.items()]
    return {"status": "ok", "panels": listed, "faults": list(FAULTS)}


def _summary(wish: Wish) -> object:
    panel = wish.panel
    return {
        "slug": panel.profile.slug,
        "path": panel.profile.path,
        "keys": panel.keys,
        "balance": f"{money.plain(panel.funds()):f}",
        "customers": {name: one.as_record() for name, one in panel.customers.items() if name},
        "settings": asdict(panel.settings),
        "faults": _faults(wish),
        "services": len(panel.services),
        "orders": len(panel.orders),
        "requests": panel.journal.last,
    }


# Faults


def _faults(wish: Wish) -> list[dict[str, Any]]:
    return [asdict(fault) for fault in wish.panel.faults]


def _whole(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value > 0


def _seconds(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and value >= 0


_MEMBERS: Mapping[str, tuple[Callable[[object], bool], str]] = MappingProxyType(
    {
        "fault": (lambda value: isinstance(value, str), "a name"),
        "action": (lambda value: isinstance(value, str), "the word of an action"),
        "count": (_whole, "a whole number above 0"),
        "seconds": (_seconds, "a number of seconds"),
        "processed": (lambda value: isinstance(value, bool), "true or false"),
        "value": (lambda _value: True, "anything"),
    }
)


def _order_fault(wish: Wish) -> object:
    wanted = {name: value for name, value in wish.object().items() if value is not None}
    for name, value in wanted.items():
        if name not in _MEMBERS:
            raise AdminError(f"a fault has no {name!r}; it has {', '.join(_MEMBERS)}")
        fits, meaning = _MEMBERS[name]
        if not fits(value):
            raise AdminError(f"{name!r} must be {meaning}")
    if wanted.get("fault") not in FAULTS:
        raise AdminError(f"no fault {wanted.get('fault')!r}; there are {', '.join(FAULTS)}")
    fault = ActiveFault(**wanted)
    _check_sense(wish.panel, fault)
    wish.panel.faults.append(fault)
    return asdict(fault)


def _check_sense(panel: Panel, fault: ActiveFault) -> None:
    if fault.processed is not None and not fault.kind.overridable:
        raise AdminError(f"{fault.fault!r} changes the panel's own answer: it is always processed")
    if fault.kind.only is None:
        return
    slug, action = fault.kind.only
    if panel.profile.slug != slug or fault.action not in (None, action):
        raise AdminError(f"{fault.fault!r} exists only at {slug}, for {action!r}")
    fault.action = action


def _end_faults(wish: Wish) -> object:
    wish.panel.faults.clear()
    return _faults(wish)


# The log


def _requests(wish: Wish) -> object:
    since = wish.query.get("since", "0")
    if not is_id(since):
        raise AdminError("'since' must be a sequence number")
    return wish.panel.journal.listing(wish.query.get("action"), int(since))


def _forget_requests(wish: Wish) -> object:
    wish.panel.journal.forget()
    return []


# Orders


def _shown(order: Order) -> dict[str, Any]:
    return order.as_record() | {"will": outcome_of(order.link)}


def _orders(wish: Wish) -> object:
    wish.panel.funds()
    return [_shown(order) for order in list(wish.panel.orders.values())]


def _order(wish: Wish) -> Order:
    try:
        return wish.panel.find(wish.item)
    except PanelError:
        raise AdminError(f"no order {wish.item!r}", 404) from None


def _set_order(wish: Wish) -> object:
    order, wanted = _order(wish), wish.object()
    unknown = set(wanted) - set(_SETTERS)
    if unknown:
        raise AdminError(f"an order has no {', '.join(sorted(unknown))} to set; it has {', '.join(_SETTERS)}")
    for name, setter in _SETTERS.items():
        if name in wanted:
            setter(wish.panel, order, wanted[name])
    order.pinned = True
    wish.panel.mark(order)
    if order.ended:
        wish.panel.give_back(order)
    return _shown(order)


def _set_charge(_panel: Panel, order: Order, value: object) -> None:
    order.charge = _amount(value)


def _set_remains(_panel: Panel, order: Order, value: object) -> None:
    order.shown.pop("remains", None)
    if value is None or (isinstance(value, int) and not isinstance(value, bool)):
        order.remains = value
    else:
        # "Unknown" is seen in the wild.
        order.shown["remains"] = value


def _set_start_count(_panel: Panel, order: Order, value: object) -> None:
    order.shown.pop("start_count", None)
    if value is None or (isinstance(value, int) and not isinstance(value, bool)):
        order.start_count = value
    else:
        order.shown["start_count"] = value


def _set_status(panel: Panel, order: Order, value: object) -> None:
    stage = _STAGES.get(str(value).lower().replace(" ", "_"))
    if stage:
        panel.move(order, stage)
    else:
        # A word that no document lists is shown as it is.
        order.shown["status"] = value


_STAGES: Mapping[str, Stage] = MappingProxyType(
    {stage.value: stage for stage in Stage} | {"cancelled": Stage.CANCELED, "fail": Stage.FAILED}
)
_SETTERS: Mapping[str, Callable[[Panel, Order, object], None]] = MappingProxyType(
    {
        "charge": _set_charge,
        "remains": _set_remains,
        "start_count": _set_start_count,
        "status": _set_status,
    }
)


# The panel itself


def _amount(value: object) -> Decimal:
    try:
        amount = Decimal(str(value))
    except InvalidOperation:
        raise AdminError(f"{value!r} is no amount") from None
    if not amount.is_finite():
        raise AdminError(f"{value!r} is no amount")
    return amount


def _keys(wish: Wish) -> list[str]:
    keys = wish.object().get("keys")
    if not isinstance(keys, list) or not all(isinstance(key, str) and key for key in keys):
        raise AdminError("'keys' must be an array of texts")
    return keys


def _set_keys(wish: Wish) -> object:
    wish.panel.keys = _keys(wish)
    return {"keys": wish.panel.keys}


def _set_customer(wish: Wish) -> object:
    wish.panel.funds()
    customer = Customer(_keys(wish), _amount(wish.object().get("balance")))
    wish.panel.customers[wish.item] = customer
    return customer.as_record()


def _set_balance(wish: Wish) -> object:
    wish.panel.funds()
    wish.panel.set_funds(_amount(wish.object().get("balance")))
    return {"balance": f"{wish.panel.balance:f}"}


def _services(wish: Wish) -> object:
    return [service.as_record() for service in wish.panel.services.values()]


def _replace_services(wish: Wish) -> object:
    if not isinstance(wish.body, list) or not all(isinstance(record, dict) for record in wish.body):
        raise AdminError("the body must be an array of services")
    try:
        services = [service_from(record) for record in wish.body]
    except ValueError as error:
        raise AdminError(str(error)) from None
    wish.panel.services = {service.id: service for service in services}
    return _services(wish)


def _settings(wish: Wish) -> object:
    return asdict(wish.panel.settings)


def _set_settings(wish: Wish) -> object:
    known = {field.name for field in fields(wish.panel.settings)}
    for name, value in wish.object().items():
        if name not in known or not isinstance(value, bool):
            raise AdminError(f"settings are {', '.join(sorted(known))}, each true or false")
    for name, value in wish.object().items():
        setattr(wish.panel.settings, name, value)
    return _settings(wish)


def _reset(wish: Wish) -> object:
    wish.panel.reset()
    return _summary(wish)


HANDLERS: Mapping[tuple[str, str], Handler] = MappingProxyType(
    {
        ("GET", ""): _summary,
        ("GET", "faults"): _faults,
        ("POST", "faults"): _order_fault,
        ("DELETE", "faults"): _end_faults,
        ("GET", "requests"): _requests,
        ("DELETE", "requests"): _forget_requests,
        ("GET", "orders"): _orders,
        ("GET", "orders/ID"): lambda wish: _shown(_order(wish)),
        ("POST", "orders/ID"): _set_order,
        ("PUT", "keys"): _set_keys,
        ("PUT", "balance"): _set_balance,
        ("PUT", "customers/ID"): _set_customer,
        ("GET", "services"): _services,
        ("POST", "services"): _replace_services,
        ("GET", "settings"): _settings,
        ("PUT", "settings"): _set_settings,
        ("POST", "reset"): _reset,
    }
)
