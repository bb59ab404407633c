"""smm.africa's dialect (v3): JSON, amounts in USD, and orders that it may confirm later.

Of the key the document shows two things: its one whole example sends ``Authorization: Bearer`` and no ``key``, and
every parameter table lists ``key``. Both are sent: a server that reads either finds it.
"""

from http import HTTPStatus
from types import MappingProxyType

from chalicelib.actions import Action
from chalicelib.panels import reading, writing
from chalicelib.panels.classic import Classic
from chalicelib.panels.dialect import Capabilities, Reply, Request
from chalicelib.panels.writing import Fields


class SmmAfrica(Classic):
    """The classic protocol in JSON, widened by campaign fields, which travel in ``PlaceOrder.extra``."""

    name = "smmafrica"
    capabilities = Capabilities(
        # Its refill has no id, so there is nothing that could be asked about it.
        actions=frozenset(
            {Action.BALANCE, Action.SERVICES, Action.ADD, Action.STATUS, Action.REFILL, Action.CANCEL},
        ),
        # "a few requests per second is safe": three, rounded so that it is never more.
        interval=333_334,
        burst=3,
        # "back off on 429 responses"
        throttled_means_not_placed=True,
        sends_dripfeed=False,
        types=frozenset({"Default"}),
    )
    # It cancels one order a call.
    names = MappingProxyType({"orders": "order"})
    charged_fields = ("charged",)
    # "Refill request accepted.", "Cancellation request accepted."
    accepted_field = "success"
    service_extras = MappingProxyType(
        {
            **Classic.service_extras,
            "drop_rate": "drop_rate",
            "start_time": "start_time",
            "speed": "speed",
            "reliability": "reliability",
        }
    )
    # The document has every amount in USD, and names the currency only beside the balance.
    currency = "USD"

    def request(self, fields: Fields, key: str) -> Request:
        """Return the document's JSON, with the key in both places."""
        return writing.document(fields, {"Authorization": f"Bearer {key}"})

    def _pending(self, document: object, reply: Reply) -> bool:
        """Say whether it will confirm later: by "HTTP 202 with pending_confirmation: true", or either alone."""
        promised = any(reading.flag(layer.get("pending_confirmation")) for layer in reading.layers(document))
        return promised or reply.status == HTTPStatus.ACCEPTED


SMMAFRICA = SmmAfrica()
