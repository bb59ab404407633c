"""How panels say no: where the words stand in a reply, and what the words mean (protocol.md 1.6 and 1.7).

A text counts only if it is one of the tables', whole. A substring proves nothing, and ``add`` gives money back on the
strength of it.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from types import MappingProxyType
from typing import NamedTuple

from chalicelib.actions import Reason
from chalicelib.panels import reading


def _normal(text: str) -> str:
    return reading.plain(text).casefold().replace("_", " ").rstrip(" .!")


# The same noun goes with each of these, from panel to panel.
_ADJECTIVES = ("Incorrect", "Invalid", "Bad")
_NOUNS: Mapping[str, Reason] = MappingProxyType(
    {
        "API key": Reason.BAD_KEY,
        "request or API key": Reason.KEY_OR_REQUEST,
        "request": Reason.MALFORMED,
        "action": Reason.ACTION,
        "parameters": Reason.MALFORMED,
        "service": Reason.SERVICE,
        "service ID": Reason.SERVICE,
        "link": Reason.LINK,
        "quantity": Reason.QUANTITY,
        "order ID": Reason.ORDER,
        "refill ID": Reason.REFILL,
    }
)
_TEXTS: Mapping[Reason, tuple[str, ...]] = MappingProxyType(
    {
        Reason.BAD_KEY: (
            "Missing API key",
            "Invalid or missing API key",
            "API key is required",
            # SmartPanel
            "API is Disable for this user or User Not Found! Contact the Support",
        ),
        # SmartPanel
        Reason.ACTION: ("This action is Invalid",),
        Reason.MALFORMED: (
            "Missing parameters",
            "Missing required parameters",
            "Neither parameter is set",
        ),
        Reason.SERVICE: (
            "error.incorrect_service_id",
            "neworder.error.incorrect_service_id",
            "neworder.error.service_not_found",
            # SmartPanel
            "Service ID does not exists",
            "Disabled service ID",
            "Service temporarily disabled",
            # mysticsmm, as `message` and as `name`
            "Service not found or unauthorized",
            "SERVICE_NOT_FOUND",
        ),
        Reason.LINK: ("neworder.error.link", "neworder.error.invalid_link"),
        Reason.DUPLICATE_LINK: (
            "You have active order with this link. Please wait until order being completed.",
            "neworder.error.link_duplicate",
        ),
        Reason.QUANTITY: ("neworder.error.invalid_quantity",),
        Reason.QUANTITY_LOW: ("neworder.error.min_quantity",),
        Reason.QUANTITY_HIGH: ("neworder.error.max_quantity",),
        Reason.NO_FUNDS: (
            "Not enough funds on balance",
            "Not enough funds",
            "neworder.error.not_enough_funds",
            "Insufficient balance",
            # mysticsmm
            "Insufficient balance in wallet.",
        ),
        Reason.ORDER: ("Order not found",),
        Reason.REFILL: (
            "Refill not found",
            # SmartPanel
            "Refill Request Not found",
        ),
        Reason.NOT_REFILLABLE: ("Order not eligible for refill.",),
        Reason.NOT_CANCELABLE: ("Order cannot be canceled", "Order cannot be cancelled"),
        Reason.THROTTLED: ("Too many requests", "Rate limit exceeded"),
        # The key is good, and the panel does not let it in from here.
        Reason.UNAVAILABLE: ("IP not allowed",),
    }
)
_REASONS: Mapping[str, Reason] = MappingProxyType(
    {_normal(f"{adjective} {noun}"): reason for adjective in _ADJECTIVES for noun, reason in _NOUNS.items()}
    | {_normal(text): reason for reason, texts in _TEXTS.items() for text in texts}
)
# Texts that hold figures; a group is the bound. "less than maximum" is a slip of one panel script, which says so where
# the quantity is above the maximum, one line after its "less than minimal".
_PATTERNS: tuple[tuple[re.Pattern[str], Reason], ...] = (
    (re.compile(r"quantity less than (?:minimal|minimum) ([0-9,]+)"), Reason.QUANTITY_LOW),
    (re.compile(r"quantity (?:more|less) than maximum ([0-9,]+)"), Reason.QUANTITY_HIGH),
    (re.compile(r"quantity must be between [0-9,]+ and [0-9,]+"), Reason.QUANTITY),
    (re.compile(r"rate limit exceeded\. max [0-9]+ requests? per [a-z]+"), Reason.THROTTLED),
)


class Meaning(NamedTuple):
    """Why a panel said no, and the bound that its sentence names."""

    reason: Reason
    bound: int | None = None


def meaning(text: str) -> Meaning | None:
    """Return what a text of a panel means, or None if no table holds it."""
    normal = _normal(text)
    if known := _REASONS.get(normal):
        return Meaning(known)
    matches = ((pattern.fullmatch(normal), reason) for pattern, reason in _PATTERNS)
    return next((Meaning(reason, _bound(match)) for match, reason in matches if match), None)


def _bound(match: re.Match[str]) -> int | None:
    return reading.count(match[1]) if match.re.groups else None


@dataclass(frozen=True, slots=True)
class Complaint:
    """A reply that says no. ``texts`` are its sentences, the most telling first."""

    texts: tuple[str, ...]

    @property
    def text(self) -> str:
        """The panel's own sentence, for the operator."""
        return (reading.plain(self.texts[0]) if self.texts else "") or "no text"

    @property
    def meaning(self) -> Meaning | None:
        """What it means, or None if no table holds any of its sentences."""
        return next((known for text in self.texts if (known := meaning(text))), None)


# Only an order has these, so a `status` of "Fail" beside one of them is how the order is doing (protocol.md 1.5).
ORDER_FIELDS = frozenset({"charge", "remains", "start_count", "start_counter", "runs", "posts", "expiry"})
_FAILED = frozenset({"fail", "failed", "failure", "error", "false"})
_ERROR_FIELDS = ("error", "errors")
_MESSAGE_FIELDS = ("message", "msg", "name")
_MOST_TEXTS = 5
# Laravel nests them: an object of lists, by field, under `errors`.
_DEEPEST_TEXT = 3


def found(document: object, *, of_refill: bool = False) -> Complaint | None:
    """Return what a reply complains about, or None if it does not complain.

    A bare JSON string and a list of strings are complaints; in an object it is ``error`` or ``errors``,
    ``success: false``, or a failed ``status`` without any field of an order. A refill has no such fields, so there
    (``of_refill``) a failed ``status`` is a complaint only beside a message.
    """
    if isinstance(document, str):
        return Complaint((document,))
    if isinstance(document, list):
        texts = tuple(item for item in document if isinstance(item, str))[:_MOST_TEXTS]
        return Complaint(texts) if texts and not any(isinstance(item, dict) for item in document) else None
    said = (_in_object(layer, of_refill=of_refill) for layer in reading.layers(document))
    complaining = [complaint for complaint in said if complaint is not None]
    return Complaint(tuple(text for complaint in complaining for text in complaint.texts)) if complaining else None


def known(value: object) -> Complaint | None:
    """Return what stands as a complaint where a result should: an error object, or a text that a table holds."""
    complaint = found(value)
    return complaint if complaint and (complaint.meaning or not isinstance(value, str)) else None


def _in_object(fields: Mapping[str, object], *, of_refill: bool) -> Complaint | None:
    errors = [fields[name] for name in _ERROR_FIELDS if _says_something(fields.get(name))]
    if not errors and not _failed(fields, of_refill=of_refill):
        return None
    messages = [fields.get(name) for name in _MESSAGE_FIELDS]
    texts = (text for value in (*errors, *messages) for text in _texts(value))
    return Complaint(tuple(islice(texts, _MOST_TEXTS)))


def _says_something(value: object) -> bool:
    return value not in (None, False, 0, "", [], {})


def _failed(fields: Mapping[str, object], *, of_refill: bool) -> bool:
    if reading.flag(fields.get("success")) is False:
        return True
    status = fields.get("status")
    failed = status is False or reading.word(status) in _FAILED
    return failed and not (fields.keys().isdisjoint(_MESSAGE_FIELDS) if of_refill else ORDER_FIELDS & fields.keys())


def _texts(value: object, depth: int = _DEEPEST_TEXT) -> Iterator[str]:
    if isinstance(value, str) and value.strip():
        yield value
    elif isinstance(value, dict | list) and depth:
        for part in value.values() if isinstance(value, dict) else value:
            yield from _texts(part, depth - 1)
