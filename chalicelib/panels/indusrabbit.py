"""The dialect of indusrabbit, IndianSmartPanel and cheapsmmpanel: a form POST with the key in ``api_token``.

Services are packages there, and what a service row calls ``service`` is its category. Comments travel as
``custom_data``, one a line, with their number as the quantity. What is known of it comes from public programs that
speak it; nothing says what a throttled ``add`` did, and no program asks for refills, cancels or several orders.
"""

from dataclasses import replace
from types import MappingProxyType

from chalicelib.actions import Action, Call, PlaceOrder
from chalicelib.panels import reading, writing
from chalicelib.panels.classic import Classic
from chalicelib.panels.dialect import Capabilities, Request
from chalicelib.panels.writing import Fields


class IndusRabbit(Classic):
    """The classic protocol by other names."""

    name = "indusrabbit"
    capabilities = Capabilities(
        actions=frozenset({Action.BALANCE, Action.SERVICES, Action.ADD, Action.STATUS}),
        sends_dripfeed=False,
        types=frozenset({"Default", "Custom Comments"}),
    )
    key_field = "api_token"
    names = MappingProxyType({"service": "package", "comments": "custom_data"})
    words = MappingProxyType({"services": "packages"})
    columns = MappingProxyType({**Classic.columns, "id": "id", "category": "service"})
    service_types = MappingProxyType({**reading.TYPES, "customdata": "Custom Comments"})

    def encode(self, call: Call, key: str) -> Request:
        """Return the call in the panel's words, its comments counted."""
        return super().encode(_counted(call), key)

    def request(self, fields: Fields, key: str) -> Request:  # noqa: ARG002 - it is among the fields
        """Return a form."""
        return writing.form(fields)


def _counted(call: Call) -> Call:
    if not isinstance(call, PlaceOrder) or "comments" not in call.extra:
        return call
    lines = [line.rstrip("\r") for line in call.extra["comments"].split("\n") if line.strip()]
    return replace(call, quantity=len(lines), extra={**call.extra, "comments": "\n".join(lines)})


INDUSRABBIT = IndusRabbit()
