"""The writes of which the transactions on orders are made: what each item becomes, and on which condition.

Nothing here speaks to DynamoDB; `orders` does, and decides what a refused one meant.
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from chalicelib.aws.accounts import partition
from chalicelib.aws.order_items import change_item, followed, live, reading_item, to_item
from chalicelib.aws.table import Item, Write
from chalicelib.clock import MINUTE
from chalicelib.model import FINAL, MOVES, Account, Change, Order, OrderState, OrderStatus, Reading, Source

# Clocks of containers differ by less than this, in µs.
_SKEW = 5 * MINUTE
# Lines of an order's history, which has some 70 bytes each; so many again are kept for ends.
_LINES = 200
# What may move money, and happens a few times at most.
_PAY = FINAL - {OrderStatus.COMPLETED}
MORE_EVIDENCE = "evidence = list_append(if_not_exists(evidence, :none), :evidence)"
ATTEMPT_NAMES = {"#attempt": "attempt", "#token": "token", "#state": "state"}


def _is_told(order: Order, reading: Reading) -> bool:
    """Say whether a new status becomes a line of the history, which must not outgrow its item.

    Panels that answer from several caches go to and fro; what moved money is always told.
    """
    lines = len(order.journal)
    return lines < _LINES or (reading.status in FINAL and lines < 2 * _LINES) or reading.status in _PAY


def _is_news(order: Order, reading: Reading) -> bool:
    return order.reading is None or order.reading.status is not reading.status


def _newer(known: Reading | None, reading: Reading) -> tuple[str, dict[str, str], Item]:
    """Return the condition, its names and its values under which a reading replaces the stored one.

    A final one is newer than any that is not, whatever the clocks say. What follows an end was read after it: the
    stored reading is still the one that was known when the panel was asked.
    """
    if known is not None and known.status in FINAL:
        values: Item = {":known": known.status.value, ":known_at": known.at}
        return "#reading.#status = :known AND #reading.#at = :known_at", {"#at": "at"}, values
    final = {f":final{n}": status.value for n, status in enumerate(sorted(FINAL))}
    condition = f"NOT #reading.#status IN ({', '.join(final)})"
    if reading.status in FINAL:
        return f"(attribute_not_exists(#reading) OR {condition})", {}, dict(final)
    # A reading of a clock that is far ahead must not stand until ours has come so far.
    condition += " AND (#reading.#at < :at OR #reading.#at > :ahead)"
    values = {":at": reading.at, ":ahead": reading.at + _SKEW, **final}
    return f"(attribute_not_exists(#reading) OR {condition})", {"#at": "at"}, values


def evidence_values(*sentences: str) -> Item:
    """Return the values of ``MORE_EVIDENCE``."""
    return {":none": [], ":evidence": list(sentences)}


def order_key(order: Order) -> tuple[str, str]:
    """Return the key of an order's own item."""
    return f"T#{order.tenant}", f"ORDER#{order.id}"


def creation(order: Order) -> Write:
    """Return the write by which there is an order under an id that nobody has."""
    return Write(*order_key(order), put=to_item(order), condition="attribute_not_exists(pk)")


def claim(order: Order) -> list[Write]:
    """Return the write by which this is the one order under its key, or in its window; none if it claims nothing."""
    if order.claim is None:
        return []
    condition, values = "attribute_not_exists(pk)", {}
    if order.claim_window is not None:
        condition, values = "attribute_not_exists(pk) OR #at < :since", {":since": order.created - order.claim_window}
    return [
        Write(
            f"T#{order.tenant}",
            f"CLAIM#{order.claim}",
            put={"order": order.id, "at": order.created},
            condition=condition,
            names={"#at": "at"} if values else {},
            values=values,
        )
    ]


def link_claim(order: Order, over: Order | None) -> list[Write]:
    """Return the write by which this is the one order on its link, which nobody has or one that is ``over``."""
    if order.link_claim is None:
        return []
    condition, values = "attribute_not_exists(pk)", {}
    if over is not None:
        condition, values = "attribute_not_exists(pk) OR #order = :over", {":over": over.id}
    return [
        Write(
            f"T#{order.tenant}",
            f"LINK#{order.link_claim}",
            put={"order": order.id},
            condition=condition,
            names={"#order": "order"} if values else {},
            values=values,
        )
    ]


def binding_key(account: Account, provider_order: int | None) -> tuple[str, str]:
    """Return the key of what says to which of our orders an account's order belongs; keys sort as the numbers do."""
    return partition(account), f"BOUND#{provider_order:020}"


def binding(order: Order, provider_order: int | None) -> Write:
    """Return the write by which a provider's order belongs to this order alone."""
    return Write(
        *binding_key(order.account, provider_order),
        put={"tenant": order.tenant, "order": order.id, "sent": order.created, "at": order.updated},
        condition="attribute_not_exists(pk)",
    )


def unsettled(order: Order) -> Write:
    """Return the write by which the account has an order whose purchase is not known."""
    return Write(*_open_key(order), put={"tenant": order.tenant, "order": order.id})


def settled(order: Order) -> Write:
    """Return the write by which the purchase of an account's order is known."""
    return Write(*_open_key(order))


def _open_key(order: Order) -> tuple[str, str]:
    return partition(order.account), f"OPEN#{order.created:020}#{order.tenant}#{order.id}"


def undecided(order: Order) -> Write:
    """Return the write by which the account has an order of which it is not known what goes back."""
    return Write(*undecided_key(order), put={"tenant": order.tenant, "order": order.id})


def decided(order: Order) -> Write:
    """Return the write by which it is known what goes back of an account's order."""
    return Write(*undecided_key(order))


def undecided_key(order: Order) -> tuple[str, str]:
    """Return the key of what names an order of which it is not known what goes back."""
    return partition(order.account), f"REFUND#{order.created:020}#{order.tenant}#{order.id}"


def release_of_claim(order: Order) -> list[Write]:
    """Return the write by which an order's key is free again."""
    if order.claim is None:
        return []
    return [
        Write(
            f"T#{order.tenant}",
            f"CLAIM#{order.claim}",
            condition="attribute_not_exists(pk) OR #order = :order",
            names={"#order": "order"},
            values={":order": order.id},
        )
    ]


def transition(  # noqa: PLR0913 - a move is made of these
    order: Order,
    state: OrderState,
    facts: Mapping[str, Any],
    *,
    source: Source,
    evidence: str | None = None,
    again: bool = False,
) -> Write:
    """Return the write by which an order moves on, out of a state from which that is legal (`model.MOVES`).

    Args:
        order: with the token of the attempt that it must still have, and ``updated`` as the time of the move.
        state: where to.
        facts: attributes that change with it; those that are None do not.
        source: who says so.
        evidence: a sentence to keep.
        again: move an order that had proved not to be placed.
    """
    given = {name: value for name, value in facts.items() if value is not None}
    sources = [one for one, targets in MOVES.items() if state in targets and (one is OrderState.NOT_PLACED) is again]
    changes = ["#state = :state", "updated = :updated", "journal = list_append(journal, :change)"]
    changes += [f"#f_{name} = :f_{name}" for name in given]
    removed = ["late_order"] if again else []
    values: Item = {
        ":state": state.value,
        ":updated": order.updated,
        ":change": [change_item(Change(order.updated, source, state))],
        ":token": order.attempt.token,
        **{f":f_{name}": value for name, value in given.items()},
        **{f":{one.value}": one.value for one in sources},
    }
    names = {**ATTEMPT_NAMES, **{f"#f_{name}": name for name in given}}
    if evidence is not None:
        changes.append(MORE_EVIDENCE)
        values |= evidence_values(evidence)
    if state is OrderState.PLACED:
        changes += ["#open = :open", "due = :updated"]
        names["#open"], values[":open"] = "open", live(order.account)
    return Write(
        *order_key(order),
        update="SET " + ", ".join(changes) + (f" REMOVE {', '.join(removed)}" if removed else ""),
        condition=f"#attempt.#token = :token AND #state IN ({', '.join(f':{one.value}' for one in sources)})",
        names=names,
        values=values,
    )


def observed(order: Order, reading: Reading, refunded: int | None) -> Order:
    """Return an order as a reading leaves it, see `ports.Orders.observe`."""
    seen = replace(order, reading=reading)
    is_news = _is_news(order, reading)
    if is_news and _is_told(order, reading):
        seen = replace(seen, journal=(*order.journal, Change(reading.at, Source.PANEL, reading.status)))
    if refunded is not None:
        return replace(seen, refunded=refunded, refund_open=False)
    if not is_news:
        return seen
    remains, charge = ("unknown" if told is None else told for told in (reading.remains, reading.charge))
    sentence = f"the panel says {reading.status}, remains {remains}, charge {charge}: that does not tell what goes back"
    return replace(seen, refund_open=True, refund_decided=None, evidence=(*order.evidence, sentence))


def observation(order: Order, reading: Reading, seen: Order) -> Write:
    """Return the write by which an order becomes what a reading makes of it, if nobody has read or decided since.

    Args:
        order: as it was known when its panel was asked.
        reading: what that says.
        seen: the order as the reading leaves it.
    """
    changes, removed = ["#reading = :reading", "refunded = :refunded"], []
    condition, names, values = _newer(order.reading, reading)
    names |= {"#reading": "reading", "#status": "status"}
    values |= {":reading": reading_item(reading), ":refunded": seen.refunded, ":before": order.refunded}
    if _is_news(order, reading):
        index = followed(order.account, reading.status, reading.at, is_untold=seen.refund_open)
        changes += [f"#{name} = :{name}" for name in index]
        removed += [] if index else ["#open", "#due"]
        names |= {"#open": "open", "#due": "due"}
        values |= {f":{name}": value for name, value in index.items()}
    if len(seen.journal) > len(order.journal):
        changes.append("journal = list_append(journal, :change)")
        values[":change"] = [change_item(seen.journal[-1])]
    if len(seen.evidence) > len(order.evidence):
        changes += ["refund_open = :open_refund", MORE_EVIDENCE]
        removed.append("refund_decided")
        values |= {":open_refund": True, **evidence_values(seen.evidence[-1])}
    elif order.refund_open and not seen.refund_open:
        removed.append("refund_open")
    exists = "attribute_exists" if order.refund_open else "attribute_not_exists"
    return Write(
        *order_key(order),
        update="SET " + ", ".join(changes) + (f" REMOVE {', '.join(removed)}" if removed else ""),
        condition=f"attribute_exists(pk) AND {condition} AND {exists}(refund_open)"
        " AND (attribute_not_exists(refunded) OR refunded = :before)",
        names=names,
        values=values,
    )
