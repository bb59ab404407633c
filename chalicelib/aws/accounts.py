"""The accounts at the providers, and what they stood at, minute by minute: what a lost order can be told by."""

import math
from collections.abc import Iterator
from decimal import Decimal
from itertools import islice, takewhile

from chalicelib.aws.table import Item, Table, Write
from chalicelib.clock import DAY
from chalicelib.model import Account
from chalicelib.ports import Charged, Mark

# So many that are too old go with each new one: an idle week may have left thousands.
_GO = 20
# A mark may have tens of kilobytes, and the newest ones are wanted.
_PAGE = 10
# An order that is not settled by then is the operator's, in µs.
KEPT = 7 * DAY
_SINCE = "SINCE"


def account_name(account: Account) -> str:
    """Return what an account is called in keys: its provider, and its tenant where it is a tenant's own."""
    return account.provider if account.tenant is None else f"{account.provider}#{account.tenant}"


def partition(account: Account) -> str:
    """Return under what the table has the orders and the marks of an account."""
    return f"P#{account_name(account)}"


def change(account: Account, at: int | None) -> Write:
    """Return the write that sets the marks aside that were made before a time; None: all, until that is known.

    Args:
        account: one whose key comes to open another account of the provider than before.
        at: when every container has the new key, in epoch µs.
    """
    return Write(partition(account), _SINCE, put={"at": at})


class DynamoAccounts:
    """Marks in the table; see ``ports.Accounts``."""

    def __init__(self, table: Table) -> None:
        """Use ``table``."""
        self._table = table

    def marks(self, account: Account) -> Iterator[Mark]:
        """Yield the marks of the account that the key opens now, newest first; none is missing."""
        since = self._since(account)
        found = map(_mark, self._table.query(partition(account), "MARK#", newest=True, page=_PAGE))
        yield from takewhile(lambda mark: mark.at >= since, found)

    def get(self, account: Account, at: int) -> Mark | None:
        """Return the mark that was made at a time, if it is still kept and of the account that the key opens now."""
        item = self._table.get(partition(account), f"MARK#{at:020}")
        return None if item is None or at < self._since(account) else _mark(item)

    def _since(self, account: Account) -> float:
        """Return since when (epoch µs) the key surely opens the account that it opens now; infinite: it is changing."""
        item = self._table.get(partition(account), _SINCE)
        return 0 if item is None else item.get("at", math.inf)

    def add(self, account: Account, mark: Mark, *, until: int) -> None:
        """Keep a mark, and let those go that are too old to tell anything."""
        self._table.write(Write(partition(account), f"MARK#{mark.at:020}", put=_item(mark)), until=until)
        old = self._table.query(partition(account), "MARK#", last=f"MARK#{mark.at - KEPT:020}", page=_PAGE)
        too_old = islice(old, _GO)
        self._table.delete_many([(item["pk"], item["sk"]) for item in too_old])


def _item(mark: Mark) -> Item:
    return {
        "at": mark.at,
        "balance": str(mark.balance),
        "top": mark.top,
        "top_after": mark.top_after,
        "charges": {str(number): [one.tenant, one.order, str(one.charge)] for number, one in mark.charges.items()},
        "unsettled": [[tenant, order] for tenant, order in sorted(mark.unsettled)],
    }


def _mark(item: Item) -> Mark:
    return Mark(
        at=item["at"],
        balance=Decimal(item["balance"]),
        top=item["top"],
        top_after=item["top_after"],
        charges={
            int(number): Charged(tenant, order, Decimal(charge))
            for number, (tenant, order, charge) in item["charges"].items()
        },
        unsettled=frozenset((tenant, order) for tenant, order in item["unsettled"]),
    )
