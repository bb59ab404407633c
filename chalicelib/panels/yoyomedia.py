"""yoyomedia's dialect: a GET with everything in the query string, the key too.

Every reply carries a ``status`` of ``ok`` or ``fail``, which is the call's and not the order's. A service's id is its
``type``; it may be a name there, and such a service is skipped, for public ids are integers. What is known of it comes
from public programs that speak it; nothing says what a throttled ``add`` did.
"""

from types import MappingProxyType

from chalicelib.actions import Action
from chalicelib.panels import writing
from chalicelib.panels.classic import Classic
from chalicelib.panels.dialect import Capabilities, Request
from chalicelib.panels.writing import Fields


class YoyoMedia(Classic):
    """The classic protocol by other names, in a query string."""

    name = "yoyomedia"
    capabilities = Capabilities(
        actions=frozenset({Action.BALANCE, Action.SERVICES, Action.ADD, Action.STATUS}),
        sends_dripfeed=False,
        types=frozenset({"Default"}),
    )
    names = MappingProxyType({"service": "type", "quantity": "amount"})
    result_fields = MappingProxyType({**Classic.result_fields, Action.STATUS: "order_status"})
    charge_fields = ("price",)
    start_fields = ("count_start",)
    remains_fields = ("count_remain",)
    columns = MappingProxyType(
        {
            "id": "type",
            "name": "name",
            "category": "category",
            "rate": "price_per_1000",
            "min": "order_min",
            "max": "order_max",
        }
    )
    # Programs that speak it take its amounts for dollars; it names no currency.
    currency = "USD"

    def request(self, fields: Fields, key: str) -> Request:  # noqa: ARG002 - it is among the fields
        """Return a GET without a body."""
        return writing.query(fields)


YOYOMEDIA = YoyoMedia()
