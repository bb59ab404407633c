"""What a tenant asks of the gateway, checked: the trust boundary.

The models take the raw fields of a request, whatever its encoding made of them, and either hold clean values or raise
``errors.Refusal`` with the code and the sentence of the contract. Which fields an order needs depends on its service;
``order_types`` decides that.
"""

import re
from collections.abc import Collection, Mapping
from decimal import Decimal
from typing import Any, ClassVar, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from chalicelib.actions import Action
from chalicelib.errors import Code, Refusal
from chalicelib.fields import (
    MAX_LINK,
    WRONG,
    Amount,
    Flag,
    GrantedActions,
    IdempotencyKey,
    Lines,
    Link,
    ListedStatus,
    ManyIds,
    Moment,
    Names,
    OneId,
    OptionalNumber,
    Origin,
    PageSize,
    Scalar,
    ServiceIds,
    Subject,
    TokenLife,
    WholeNumber,
    Word,
    is_given,
)
from chalicelib.keys import holds_key

MAX_FIELDS = 64
# In bytes: DynamoDB's items hold 400 KB.
MAX_ORDER = 300_000
# These belong to the conversation with us and never travel on (contract 4).
OWN_FIELDS = frozenset({"key", "action", "api_token", "idempotency_key", "max_charge"})
_FIELD_NAME = re.compile(r"[A-Za-z0-9_.\-]{1,64}")
_UNDERSCORES = str.maketrans(".-", "__")
_USER_NAME = re.compile(r"@?[A-Za-z0-9._-]+")
# With a port the host has a dot: `tel:123/4` is another scheme.
_HOST_PATH = re.compile(r"(?:[\w.-]+|[\w-]+(?:\.[\w-]+)+:[0-9]{1,5})/\S*")
_WEB_URL = re.compile(r"(?i:https?)://[^\s/?#@]+(?:[/?#]\S*)?")
_CONTROL_OR_SPACE = re.compile(r"[\s\x00-\x1f\x7f-\x9f\ud800-\udfff]")


def _missing(name: str) -> Refusal:
    return Refusal(Code.MISSING_FIELD, f"The field {name} is missing", field=name)


# What pydantic says of text is for programmers.
_NOT_RIGHT: Mapping[str, str] = {
    "string_type": "text is needed",
    "string_unicode": "it cannot be written as text",
    "string_pattern_mismatch": "this is none that we gave",
    "literal_error": "there is no such value",
    "bool_type": "true or false is needed",
}


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
        message = first["msg"] if first["type"] == WRONG else _NOT_RIGHT.get(first["type"], "it is out of bounds")
        raise Refusal(Code.INVALID_REQUEST, f"The field {name} is not right: {message}", field=name)


class BalanceCommand(Command):
    """Ask for the balance."""


class ServicesCommand(Command):
    """Ask for the catalog, from a cursor on."""

    cursor: str | None = Field(default=None, pattern=r"^[0-9]{1,18}$")


class TargetsCommand(Command):
    """What asks for one order or refill, or for several; ``one`` and ``many`` name the two fields."""

    action: ClassVar[Action]
    one: ClassVar[str] = "order"
    many: ClassVar[str] = "orders"

    @property
    def batch(self) -> bool:
        """Whether several were asked for, and a list is the answer."""
        return getattr(self, self.many) is not None

    @property
    def targets(self) -> tuple[str, ...]:
        """The ids as the caller wrote them, each once."""
        ids: tuple[str, ...] = getattr(self, self.many) or getattr(self, self.one)
        return ids

    @classmethod
    def read(cls, fields: Mapping[str, Any]) -> Self:
        """Return the command in the fields of a request.

        Raises:
            Refusal: neither an id nor a list of ids is given, or both are, or the list is too long.
        """
        command = super().read(fields)
        given = [name for name in (cls.one, cls.many) if getattr(command, name) is not None]
        if not given:
            raise _missing(cls.one)
        if len(given) > 1:
            raise Refusal(Code.INVALID_REQUEST, f"Give either {cls.one} or {cls.many}")
        return command


class StatusCommand(TargetsCommand):
    """Ask how orders are doing."""

    action = Action.STATUS

    order: OneId | None = None
    orders: ManyIds = None


class RefillCommand(TargetsCommand):
    """Ask for refills of orders."""

    action = Action.REFILL

    order: OneId | None = None
    orders: ManyIds = None


class CancelCommand(TargetsCommand):
    """Ask that orders be canceled."""

    action = Action.CANCEL

    order: OneId | None = None
    orders: ManyIds = None


class RefillStatusCommand(TargetsCommand):
    """Ask how refills are doing."""

    action = Action.REFILL_STATUS
    one = "refill"
    many = "refills"

    refill: OneId | None = None
    refills: ManyIds = None


class OrdersCommand(Command):
    """Ask for one's own orders, newest first; ``cursor`` is where the page before ended."""

    status: ListedStatus | None = None
    since: Moment | None = None
    limit: PageSize = 50
    cursor: str | None = Field(default=None, max_length=64, pattern=r"^[0-9]{16}-[0-9]{7,10}$")
    idempotency_key: IdempotencyKey | None = None

    @property
    def before(self) -> tuple[int, int] | None:
        """When the last order of the page before was created (epoch µs), and its id."""
        if self.cursor is None:
            return None
        created, order = map(int, self.cursor.split("-"))
        return created, order


class TokenCommand(Command):
    """Ask for a browser token. What is empty or unknown is refused: it would make a wider token than was meant."""

    model_config = ConfigDict(extra="forbid")

    actions: GrantedActions
    ttl: TokenLife
    origin: Origin | None = None
    services: ServiceIds | None = None
    max_charge: Amount | None = None
    subject: Subject | None = None
    prices: Flag = False

    @classmethod
    def read(cls, fields: Mapping[str, Any]) -> Self:
        """Return the command in the fields of a request.

        Raises:
            Refusal: a field is missing, empty, wrong or none of this action.
        """
        given = {name: value for name, value in fields.items() if name != "action"}
        if not given.keys() <= cls.model_fields.keys():
            names = ", ".join(cls.model_fields)
            raise Refusal(Code.INVALID_REQUEST, f"The action token has these fields only: {names}")
        for name, value in given.items():
            if value is None or value == "":
                raise Refusal(Code.INVALID_REQUEST, f"The field {name} is empty: leave it out", field=name)
        return super().read(given)


class AddCommand(Command):
    """Place an order. The fields are those of all types (protocol.md 1.3); what is more travels on as it is."""

    model_config = ConfigDict(extra="allow")
    __pydantic_extra__: dict[str, Scalar] = Field(init=False)

    service: WholeNumber
    link: Link | None = None
    quantity: WholeNumber | None = None
    runs: OptionalNumber = None
    interval: WholeNumber | None = None
    comments: Lines = None
    usernames: Names = None
    hashtags: Lines = None
    keywords: Lines = None
    groups: Lines = None
    username: Word = None
    hashtag: Word = None
    media: Word = None
    answer_number: WholeNumber | None = None
    min: WholeNumber | None = None
    max: WholeNumber | None = None
    delay: WholeNumber | None = None
    posts: WholeNumber | None = None
    old_posts: WholeNumber | None = None
    expiry: Word = None
    country: Word = None
    device: WholeNumber | None = None
    type_of_traffic: WholeNumber | None = None
    google_keyword: Word = None
    referring_url: Word = None
    max_charge: Amount | None = None
    idempotency_key: IdempotencyKey | None = None

    @property
    def of_type(self) -> Mapping[str, str | int]:
        """The fields that some order type has, as far as they are given."""
        names = type(self).model_fields.keys() - {"service", "max_charge", "idempotency_key"}
        return {name: value for name in sorted(names) if (value := getattr(self, name)) is not None}

    @property
    def further(self) -> Mapping[str, str]:
        """The fields that no type knows, to be forwarded (contract 4)."""
        return self.__pydantic_extra__

    @classmethod
    def read(cls, fields: Mapping[str, Any]) -> Self:
        """Return the order in the fields of a request.

        Raises:
            Refusal: a field is wrong, whatever the type of the service.
        """
        given = {name: value for name, value in fields.items() if name in cls.model_fields or _may_travel(name, value)}
        _check_names(given.keys() - cls.model_fields.keys())
        key = given.pop("idempotency_key", None)
        if sum(_size(value) for value in given.values()) > MAX_ORDER:
            raise Refusal(Code.TOO_LARGE, f"An order holds at most {MAX_ORDER} bytes")
        if given.get("link") == 0:  # of a type without a link
            del given["link"]
        try:
            command = super().read({**{n: v for n, v in given.items() if is_given(v)}, "idempotency_key": key})
        except Refusal as refusal:
            raise _reworded(refusal) from None
        if command.link is not None:
            _check_link(command.link)
        return command


def _may_travel(name: str, value: object) -> bool:
    """Say whether a field that no type knows may go to a panel: a key of ours may not, under whatever name."""
    return name not in OWN_FIELDS and not (isinstance(value, str) and holds_key(value))


def _size(value: object) -> int:
    """Return how many bytes a field will take as text; a short number in JSON may be a long one in full."""
    if isinstance(value, list | dict):
        return sum(map(_size, value))
    return len(str(value).encode(errors="replace")) if not isinstance(value, Decimal) else len(f"{value:f}")


def _check_names(further: Collection[str]) -> None:
    if len(further) > MAX_FIELDS:
        raise Refusal(Code.INVALID_REQUEST, f"A request has at most {MAX_FIELDS} fields")
    if not all(_FIELD_NAME.fullmatch(name) for name in further):
        raise Refusal(Code.INVALID_REQUEST, "A field's name has 1 to 64 letters, digits, dots, dashes or underscores")
    # To PHP `old.posts` is `old_posts`, and some panel may not tell `Quantity` from `quantity`: what is ours, or a
    # type's, does not travel under such a name. Nor may a caller believe that `Idempotency-Key` was heeded.
    taken = OWN_FIELDS | AddCommand.model_fields.keys()
    if any(name.lower().translate(_UNDERSCORES) in taken for name in further):
        raise Refusal(Code.INVALID_REQUEST, "A field's name is that of another one in another spelling")


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


AnyCommand = (
    BalanceCommand
    | ServicesCommand
    | AddCommand
    | StatusCommand
    | RefillCommand
    | RefillStatusCommand
    | CancelCommand
    | OrdersCommand
    | TokenCommand
)

COMMANDS: Mapping[Action, type[AnyCommand]] = {
    Action.BALANCE: BalanceCommand,
    Action.SERVICES: ServicesCommand,
    Action.ADD: AddCommand,
    Action.STATUS: StatusCommand,
    Action.REFILL: RefillCommand,
    Action.REFILL_STATUS: RefillStatusCommand,
    Action.CANCEL: CancelCommand,
    Action.ORDERS: OrdersCommand,
    Action.TOKEN: TokenCommand,
}


def read_action(value: object, offered: Collection[Action]) -> Action:
    """Return the action that a request names, one of those ``offered``.

    Raises:
        Refusal: there is none, or it is not offered. A missing action is never guessed (protocol.md 2).
    """
    if value is None or value == "":
        raise Refusal(Code.INVALID_REQUEST, "The field action is missing", field="action")
    try:
        action = Action(str(value))
    except ValueError:
        action = None
    if action is None or action not in offered:
        raise Refusal(Code.UNKNOWN_ACTION, "There is no such action", field="action")
    return action


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
