"""Every error of Panelgate, and the codes that callers see.

::

    PanelgateError
    ├── Refusal            the caller is told no: a code of the contract and a sentence
    ├── StoreBusy          the store refused every try inside the deadline; nothing was decided
    ├── SendFailure        a call to a provider brought no reply
    │   ├── NeverSent      not one byte of it left: it is safe to call again
    │   └── AnswerLost     the provider may have acted on it
    ├── UnreadableReply    the provider replied, and no table says what the reply means
    ├── Unavailable        a provider cannot be used now: no key, no free slot, not configured
    └── AlreadyBound       a provider's order id came back for a second order of ours

A refusal by a provider is no error: it is an answer (``actions.Refused``).
"""

from collections.abc import Mapping
from enum import StrEnum
from types import MappingProxyType


class Code(StrEnum):
    """The v3 error codes of the contract, section 4."""

    INVALID_REQUEST = "invalid_request"
    UNKNOWN_ACTION = "unknown_action"
    INVALID_API_KEY = "invalid_api_key"
    INSUFFICIENT_FUNDS = "insufficient_funds"
    SPEND_LIMIT_REACHED = "spend_limit_reached"
    FORBIDDEN = "forbidden"
    SERVICE_NOT_FOUND = "service_not_found"
    ORDER_NOT_FOUND = "order_not_found"
    REFILL_NOT_FOUND = "refill_not_found"
    REQUEST_IN_PROGRESS = "request_in_progress"
    PRICE_CHANGED = "price_changed"
    DUPLICATE_LINK = "duplicate_link"
    TOO_LARGE = "too_large"
    UNSUPPORTED_MEDIA_TYPE = "unsupported_media_type"
    INVALID_LINK = "invalid_link"
    INVALID_QUANTITY = "invalid_quantity"
    MISSING_FIELD = "missing_field"
    NOT_SUPPORTED = "not_supported"
    IDEMPOTENCY_KEY_REUSED = "idempotency_key_reused"
    ORDER_REFUSED = "order_refused"
    RATE_LIMITED = "rate_limited"
    INTERNAL = "internal"
    SERVICE_UNAVAILABLE = "service_unavailable"


HTTP_STATUS: Mapping[Code, int] = MappingProxyType(
    {
        Code.INVALID_REQUEST: 400,
        Code.UNKNOWN_ACTION: 400,
        Code.INVALID_API_KEY: 401,
        Code.INSUFFICIENT_FUNDS: 402,
        Code.SPEND_LIMIT_REACHED: 402,
        Code.FORBIDDEN: 403,
        Code.SERVICE_NOT_FOUND: 404,
        Code.ORDER_NOT_FOUND: 404,
        Code.REFILL_NOT_FOUND: 404,
        Code.REQUEST_IN_PROGRESS: 409,
        Code.PRICE_CHANGED: 409,
        Code.DUPLICATE_LINK: 409,
        Code.TOO_LARGE: 413,
        Code.UNSUPPORTED_MEDIA_TYPE: 415,
        Code.INVALID_LINK: 422,
        Code.INVALID_QUANTITY: 422,
        Code.MISSING_FIELD: 422,
        Code.NOT_SUPPORTED: 422,
        Code.IDEMPOTENCY_KEY_REUSED: 422,
        Code.ORDER_REFUSED: 422,
        Code.RATE_LIMITED: 429,
        Code.INTERNAL: 500,
        Code.SERVICE_UNAVAILABLE: 503,
    }
)


class PanelgateError(Exception):
    """Base of all errors that this package raises on purpose."""


class Refusal(PanelgateError):
    """The caller is told no.

    Attributes:
        code: one of the contract's codes.
        message: a sentence for the caller that says what to do; it never holds input or secrets.
        field: the request field at fault, if it is one field; v2 words its sentence by it.
        retry_after: whole seconds after which to try again, where that can help.
        replayed: this is the first answer to an idempotency key, given again.
        classic: the classic protocol's sentence, where it has a better one than its code has.
        request_id: of the request that was refused first, if this is its answer again.
    """

    def __init__(  # noqa: PLR0913 - what a caller is told is made of these
        self,
        code: Code,
        message: str,
        *,
        field: str | None = None,
        retry_after: int | None = None,
        replayed: bool = False,
        classic: str | None = None,
        request_id: str | None = None,
    ) -> None:
        """Make a refusal; see the class for the arguments."""
        super().__init__(message)
        self.code = code
        self.message = message
        self.field = field
        self.retry_after = retry_after
        self.replayed = replayed
        self.classic = classic
        self.request_id = request_id

    @property
    def status(self) -> int:
        """The HTTP status that v3 answers with."""
        return HTTP_STATUS[self.code]


def try_later(seconds: int) -> Refusal:
    """Return the refusal of a caller to whom nothing was done, for a reason that is not theirs and will pass."""
    return Refusal(Code.SERVICE_UNAVAILABLE, "Service temporarily unavailable", retry_after=seconds)


def unknown_key() -> Refusal:
    """Return the refusal of a key that is unknown, wrong, revoked or expired: they all look alike."""
    return Refusal(Code.INVALID_API_KEY, "Invalid API key")


class StoreBusy(PanelgateError):
    """The store answered conflict, throttling or an error until the deadline; the write may be retried."""


class SendFailure(PanelgateError):
    """A call to a provider brought no reply. ``str()`` is a short cause without URL, key or address."""


class NeverSent(SendFailure):
    """Not one byte of the request was written: name lookup, connection, TLS or our own deadline failed."""


class AnswerLost(SendFailure):
    """Writing began and no whole reply came back; the provider may have acted on the request."""


class UnreadableReply(PanelgateError):
    """The reply means nothing that the dialect's tables know: HTML, broken JSON, an unknown text or shape."""


class Unavailable(PanelgateError):
    """A provider cannot be used now, and nothing was sent.

    Attributes:
        retry_after: whole seconds after which to try again.
    """

    def __init__(self, cause: str, *, retry_after: int = 5) -> None:
        """Say why, in words for the log, and when a new try makes sense."""
        super().__init__(cause)
        self.retry_after = retry_after


class AlreadyBound(PanelgateError):
    """A provider named, for a new order, an order of its own that already belongs to another one of ours."""
