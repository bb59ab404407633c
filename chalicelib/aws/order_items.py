"""An order as an item of the table, and back."""

from datetime import UTC, datetime
from decimal import Decimal

from chalicelib.aws.accounts import account_name
from chalicelib.aws.table import Item
from chalicelib.clock import SECOND
from chalicelib.model import (
    FINAL,
    RECHECKS,
    REOPENS,
    Account,
    Allowance,
    Attempt,
    Budget,
    Change,
    Funding,
    Order,
    OrderState,
    OrderStatus,
    Reading,
    Search,
    Source,
)


def attempt_item(attempt: Attempt) -> Item:
    """Return the map that stands for an attempt."""
    return {"token": attempt.token, "send_by": attempt.send_by, "key_version": attempt.key_version}


def reading_item(reading: Reading) -> Item:
    """Return the map that stands for a reading."""
    optional = {
        "start_count": reading.start_count,
        "remains": reading.remains,
        "charge": None if reading.charge is None else str(reading.charge),
        "posts": reading.posts,
        "expiry": reading.expiry,
    }
    return {
        "status": reading.status.value,
        "at": reading.at,
        **{name: value for name, value in optional.items() if value is not None},
    }


def _reading(item: Item) -> Reading:
    return Reading(
        status=OrderStatus(item["status"]),
        start_count=item.get("start_count"),
        remains=item.get("remains"),
        at=item["at"],
        charge=Decimal(item["charge"]) if "charge" in item else None,
        posts=item.get("posts"),
        expiry=item.get("expiry"),
    )


def change_item(change: Change) -> Item:
    """Return the map that stands for a line of an order's history."""
    kind = "state" if isinstance(change.now, OrderState) else "status"
    return {"at": change.at, "by": change.source.value, kind: change.now.value}


def _change(item: Item) -> Change:
    now = OrderState(item["state"]) if "state" in item else OrderStatus(item["status"])
    return Change(item["at"], Source(item["by"]), now)


def search_item(search: Search) -> Item:
    """Return the map that stands for how far a settlement has come."""
    optional = {"after": search.after, "next": search.next}
    return {
        "since": search.since,
        "looks": search.looks,
        "due": search.due,
        "befores": list(search.befores),
        "candidates": list(search.candidates),
        **{name: value for name, value in optional.items() if value is not None},
    }


def _search(item: Item) -> Search:
    return Search(
        since=item["since"],
        looks=item["looks"],
        due=item["due"],
        befores=tuple(item["befores"]),
        after=item.get("after"),
        next=item.get("next"),
        candidates=tuple(item["candidates"]),
    )


def live(account: Account) -> str:
    """Return under what the index of open orders has those that an account placed and that have not ended."""
    return f"placed#{account_name(account)}"


def ended(account: Account) -> str:
    """Return under what the index has those that have ended and that their provider may still reopen."""
    return f"ended#{account_name(account)}"


def followed(account: Account, status: OrderStatus | None, since: int, *, is_untold: bool = False) -> Item:
    """Return the attributes by which the index of open orders has an account's order that is placed.

    Args:
        account: whose.
        status: what its panel said last, None for nothing yet.
        since: when that was, in epoch µs; what follows an end is due a while later.
        is_untold: it ended without a word of what goes back, which may follow.

    Returns:
        Nothing for an order that has ended for good.
    """
    if status not in FINAL:
        return {"open": live(account), "due": since}
    return {"open": ended(account), "due": since + RECHECKS[0]} if status in REOPENS or is_untold else {}


def to_item(order: Order) -> Item:
    """Return a new order as an item, without its keys; attributes that are None are not stored."""
    status = order.reading.status if order.reading else None  # a subscription's may have ended before it was seen
    is_placed = order.state is OrderState.PLACED
    return {
        "id": order.id,
        "owner": order.tenant,
        "client": order.client,
        "provider": order.provider,
        "service": order.service,
        "public_service": order.public_service,
        "type": order.type,
        "link": order.link,
        "quantity": order.quantity,
        "runs": order.runs,
        "interval": order.interval,
        "charge": order.charge,
        "rate": order.rate,
        "cost": str(order.cost),
        "funding": order.funding.value,
        "state": order.state.value,
        **(followed(order.account, status, order.created) if is_placed else {}),
        "journal": [change_item(change) for change in order.journal],
        "attempt": attempt_item(order.attempt),
        "attempts": order.attempts,
        "created": sortable(order.created),
        "created_at": order.created,
        "updated": order.updated,
        "fingerprint": order.fingerprint,
        "claim": order.claim,
        "claim_window": order.claim_window,
        "link_claim": order.link_claim,
        "budget": {"day": order.budget.day, "limit": order.budget.limit} if order.budget else None,
        "allowance": _allowance_item(order.allowance),
        "audience": None if order.audience is None else audience_key(order.tenant, order.audience),
        "idempotency_key": order.idempotency_key,
        "extra": dict(order.extra) or None,
        "held": order.held,
        "spent": order.spent,
        "refunded": order.refunded,
        "children": None if order.held is None else {str(number): ours for number, ours in order.children.items()},
        "parent": order.parent,
        "own_key": order.own_key or None,
        "provider_order": order.provider_order,
        "reading": reading_item(order.reading) if order.reading else None,
    }


def _allowance_item(allowance: Allowance | None) -> Item | None:
    if allowance is None:
        return None
    return {"token": allowance.token, "limit": allowance.limit, "expires": allowance.expires}


def audience_key(tenant: str, audience: str) -> str:
    """Return under what the index of pages' orders has those of an audience."""
    return f"{tenant}#{audience}"


def sortable(at: int) -> str:
    """Return a time (epoch µs) as the index by time has it."""
    return datetime.fromtimestamp(at / SECOND, UTC).isoformat(timespec="microseconds")


def from_item(item: Item) -> Order:
    """Return the order that an item describes."""
    attempt = item["attempt"]
    return Order(
        id=item["id"],
        tenant=item["owner"],
        client=item["client"],
        provider=item["provider"],
        service=item["service"],
        public_service=item["public_service"],
        type=item["type"],
        link=item.get("link"),
        quantity=item["quantity"],
        runs=item.get("runs"),
        interval=item.get("interval"),
        charge=item["charge"],
        rate=item["rate"],
        cost=Decimal(item["cost"]),
        funding=Funding(item["funding"]),
        state=OrderState(item["state"]),
        attempt=Attempt(
            token=attempt["token"],
            send_by=attempt["send_by"],
            key_version=item.get("key_version", attempt["key_version"]),
        ),
        attempts=item["attempts"],
        earlier_keys=tuple(item.get("earlier_keys", ())),
        created=item["created_at"],
        updated=item["updated"],
        fingerprint=item["fingerprint"],
        claim=item.get("claim"),
        claim_window=item.get("claim_window"),
        link_claim=item.get("link_claim"),
        budget=Budget(item["budget"]["day"], item["budget"]["limit"]) if "budget" in item else None,
        allowance=Allowance(**item["allowance"]) if "allowance" in item else None,
        audience=item["audience"].removeprefix(audience_key(item["owner"], "")) if "audience" in item else None,
        idempotency_key=item.get("idempotency_key"),
        extra=item.get("extra", {}),
        provider_order=item.get("provider_order"),
        provider_charge=Decimal(item["provider_charge"]) if "provider_charge" in item else None,
        pending_order=item.get("pending_order"),
        late_order=item.get("late_order"),
        pending=item.get("pending", False),
        reading=_reading(item["reading"]) if "reading" in item else None,
        evidence=tuple(item.get("evidence", ())),
        journal=tuple(_change(line) for line in item["journal"]),
        search=_search(item["search"]) if "search" in item else None,
        refusal=item.get("refusal"),
        held=item.get("held"),
        spent=item.get("spent"),
        refunded=item.get("refunded", 0),
        refund_open=item.get("refund_open", False),
        refund_decided=item.get("refund_decided"),
        children={int(number): ours for number, ours in item.get("children", {}).items()},
        parent=item.get("parent"),
        own_key=item.get("own_key", False),
    )
