"""What a tenant asks of the gateway, checked field by field: the trust boundary.

The models take the raw fields of a request, whatever its encoding made of them (numbers or text), and either hold
clean values or raise ``errors.Refusal`` with the code and the sentence of the contract.
"""

import re
from collections.abc import Mapping
from decimal import Decimal
from typing import Annotated, Any, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError
from pydantic_core import PydanticCustomError

from chalicelib.actions import Action
from chalicelib.errors import Code, Refusal

MAX_LINK = 2048
MAX_FIELDS = 64
MAX_KEY = 255
# These belong to the conversation with us and never travel on (contract 4).
OWN_FIELDS = frozenset({"key", "action", "api_token", "idempotency_key", "max_charge"})
# Fields of other order types (protocol.md 1.3): dropped when empty or 0 and refused otherwise (contract 4).
FOREIGN_FIELDS = frozenset(
    {
        "answer_number",
        "comments",
        "country",
        "delay",
        "device",
        "expiry",
        "google_keyword",
        "groups",
        "hashtag",
        "hashtags",
        "keywords",
        "max",
        "media",
        "min",
        "old_posts",
        "posts",
        "referring_url",
        "type_of_traffic",
        "username",
        "usernames",
    }
)
_DIGITS = re.compile(r"[0-9]{1,18}")
_AMOUNT = re.compile(r"[0-9]{1,12}(?:\.[0-9]{1,12})?")
_USER_NAME = re.compile(r"@?[A-Za-z0-9._-]+")
# With a port the host has a dot: `tel:123/4` is another scheme.
_HOST_PATH = re.compile(r"(?:[\w.-]+|[\w-]+(?:\.[\w-]+)+:[0-9]{1,5})/\S*")
_WEB_URL = re.compile(r"(?i:https?)://[^\s/?#@]+(?:[/?#]\S*)?")
# C0 without tab, CR and LF (lists are sent by lines), DEL and C1; surrogates cannot be encoded at all.
_CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ud800-\udfff]")
_CONTROL_OR_SPACE = re.compile(r"[\s\x00-\x1f\x7f-\x9f\ud800-\udfff]")


def _whole_number(value: object) -> object:
    """Clients send numbers as numbers or as text; JSON may write 100 as 100.0."""
    if isinstance(value, bool):
        return value
    if isinstance(value, int) and 0 <= value < 10**18:
        return value
    if isinstance(value, Decimal) and 0 <= value < 10**18 and value == value.to_integral_value():
        return int(value)
    if isinstance(value, str) and _DIGITS.fullmatch(value.strip()):
        return int(value)
    error, message = "whole_number", "a whole number is needed"
    raise PydanticCustomError(error, message)


def _optional_number(value: object) -> object:
    """Panel scripts send every field of their form, empty or 0 where it does not apply."""
    if value is None or value in ("", 0, "0"):
        return None
    return _whole_number(value)


def _amount(value: object) -> object:
    if isinstance(value, Decimal | int) and not isinstance(value, bool):
        value = _digits(value)
    if isinstance(value, str) and _AMOUNT.fullmatch(value):
        return Decimal(value)
    error, message = "amount", "an amount such as 5.85 is needed"
    raise PydanticCustomError(error, message)


def _digits(value: Decimal | int) -> str:
    return format(Decimal(value), "f")


def _missing(name: str) -> Refusal:
    return Refusal(Code.MISSING_FIELD, f"The field {name} is missing", field=name)


# What pydantic says of text is for programmers.
_NOT_RIGHT: Mapping[str, str] = {
    "string_type": "text is needed",
    "string_unicode": "it cannot be written as text",
    "string_too_long": "it is too long",
    "string_pattern_mismatch": "this is none that we gave",
}

WholeNumber = Annotated[int, BeforeValidator(_whole_number), Field(strict=True)]
OptionalNumber = Annotated[Annotated[int, Field(strict=True)] | None, BeforeValidator(_optional_number)]
Amount = Annotated[Decimal, BeforeValidator(_amount)]


class Command(BaseModel):
    """What every command shares. Built at first use: a container seldom needs all of them."""

    model_config = ConfigDict(frozen=True, extra="ignore", defer_build=True, hide_input_in_errors=True)

    @classmethod
    def read(cls, fields: Mapping[str, Any]) -> Self:
        """Return the command in the fields of a request; a field that is empty or null is not given.

        Raises:
            Refusal: `missing_field` or `invalid_request`, naming the field but never its content.
        """
        try:
            return cls.model_validate({name: value for name, value in fields.items() if value not in (None, "")})
        except ValidationError as error:
            first = error.errors(include_input=False, include_url=False, include_context=False)[0]
        name = str(first["loc"][0]) if first["loc"] else "request"
        if first["type"] == "missing":
            raise _missing(name)
        message = _NOT_RIGHT.get(first["type"], first["msg"])
        raise Refusal(Code.INVALID_REQUEST, f"The field {name} is not right: {message}", field=name)


class BalanceCommand(Command):
    """Ask for the balance."""


class ServicesCommand(Command):
    """Ask for the catalog, from a cursor on."""

    cursor: str | None = Field(default=None, max_length=64, pattern=r"^[0-9]{1,18}$")


class StatusCommand(Command):
    """Ask for one order."""

    order: WholeNumber


class AddCommand(Command):
    """Place an order. ``quantity`` is per run; ``extra`` travels on to the panel."""

    service: WholeNumber
    link: str
    quantity: WholeNumber
    runs: OptionalNumber = None
    interval: OptionalNumber = None
    max_charge: Amount | None = None
    idempotency_key: str | None = None
    extra: dict[str, str] = Field(default_factory=dict)

    @classmethod
    def read(cls, fields: Mapping[str, Any]) -> Self:
        """Return the order in the fields of a request.

        Raises:
            Refusal: a field is missing, wrong, or belongs to another order type.
        """
        for name in ("link", "quantity"):
            if fields.get(name) in (None, ""):
                raise _missing(name)
        known = {name: fields[name] for name in cls.model_fields if name in fields and name != "extra"}
        try:
            command = super().read({**known, "extra": _extra(fields)})
        except Refusal as refusal:
            raise _reworded(refusal) from None
        _check_link(command.link)
        if command.idempotency_key is not None:
            check_idempotency_key(command.idempotency_key)
        if (command.runs is None) != (command.interval is None):
            name = "interval" if command.interval is None else "runs"
            raise Refusal(Code.MISSING_FIELD, "A drip-feed needs both runs and interval", field=name)
        return command


def _extra(fields: Mapping[str, Any]) -> dict[str, str]:
    """Return the fields to forward: those that we do not know, when scalar (contract 4)."""
    known = OWN_FIELDS | set(AddCommand.model_fields) - {"extra"}
    extra = {}
    for name, value in fields.items():
        if name in known:
            continue
        if name in FOREIGN_FIELDS:
            if value not in (None, "", 0, "0", [], {}):
                raise Refusal(Code.INVALID_REQUEST, f"The field {name} does not belong to this service's type")
            continue
        if value is not None:
            extra[_forwardable(name)] = _scalar(name, value)
    if len(extra) > MAX_FIELDS:
        raise Refusal(Code.INVALID_REQUEST, f"A request has at most {MAX_FIELDS} fields")
    return extra


def _forwardable(name: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9_.\-]{1,64}", name):
        raise Refusal(Code.INVALID_REQUEST, "A field's name has 1 to 64 letters, digits, dots, dashes or underscores")
    return name


def _scalar(name: str, value: object) -> str:
    if isinstance(value, bool):
        return "1" if value else "0"
    if isinstance(value, int | Decimal):
        return _digits(value)
    if not isinstance(value, str):
        raise Refusal(Code.INVALID_REQUEST, f"The field {name} must be text, a number or a boolean", field=name)
    if _CONTROL.search(value):
        raise Refusal(Code.INVALID_REQUEST, f"The field {name} holds control characters", field=name)
    return value


def _reworded(refusal: Refusal) -> Refusal:
    """Return the refusal of a link or a quantity under the code that the contract has for it."""
    if refusal.code is Code.INVALID_REQUEST and refusal.field == "link":
        return _invalid_link()
    if refusal.code is Code.INVALID_REQUEST and refusal.field == "quantity":
        return Refusal(Code.INVALID_QUANTITY, "Incorrect quantity", field="quantity")
    return refusal


def _check_link(link: str) -> None:
    """Refuse what is no http(s) URL, host/path or user name (contract 4)."""
    forms = (_WEB_URL,) if "://" in link.split("?", maxsplit=1)[0] else (_USER_NAME, _HOST_PATH)
    if len(link) > MAX_LINK or _CONTROL_OR_SPACE.search(link) or not any(form.fullmatch(link) for form in forms):
        raise _invalid_link()


def _invalid_link() -> Refusal:
    message = "The link must be an http(s) URL, host/path or a user name, without spaces"
    return Refusal(Code.INVALID_LINK, message, field="link")


def check_idempotency_key(key: str) -> None:
    """Refuse what is not 1 to 255 printable ASCII characters (contract 5)."""
    if not (1 <= len(key) <= MAX_KEY and key.isascii() and key.isprintable()):
        raise Refusal(Code.INVALID_REQUEST, f"An idempotency key has 1 to {MAX_KEY} printable ASCII characters")


AnyCommand = BalanceCommand | ServicesCommand | StatusCommand | AddCommand

COMMANDS: Mapping[Action, type[AnyCommand]] = {
    Action.BALANCE: BalanceCommand,
    Action.SERVICES: ServicesCommand,
    Action.STATUS: StatusCommand,
    Action.ADD: AddCommand,
}


def read_action(value: object) -> Action:
    """Return the action that a request names.

    Raises:
        Refusal: there is none, or nobody knows it. A missing action is never guessed (protocol.md 2).
    """
    if value is None or value == "":
        raise Refusal(Code.INVALID_REQUEST, "The field action is missing", field="action")
    try:
        return Action(str(value))
    except ValueError:
        raise Refusal(Code.UNKNOWN_ACTION, "There is no such action", field="action") from None


def read_command(action: Action, fields: Mapping[str, Any]) -> AnyCommand:
    """Return the command for an action.

    Raises:
        Refusal: a field is wrong, or this gateway does not offer the action.
    """
    try:
        command = COMMANDS[action]
    except KeyError:
        raise Refusal(Code.NOT_SUPPORTED, f"The action {action} is not supported by this gateway") from None
    return command.read(fields)
