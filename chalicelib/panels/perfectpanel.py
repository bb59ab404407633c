"""PerfectPanel's own dialect, which most panels on earth speak, smosale, smmrich and smmleaf among them.

A form POST with the key in the body; errors come as ``{"error": text}``, mostly at HTTP 200. The pages show no limit
and say nothing of throttling, so a throttled ``add`` may have bought.
"""

from types import MappingProxyType

from chalicelib.actions import CLASSIC_ACTIONS, Action
from chalicelib.model import OrderStatus
from chalicelib.panels import reading, writing
from chalicelib.panels.classic import Classic
from chalicelib.panels.dialect import Capabilities, Request
from chalicelib.panels.writing import Fields


class PerfectPanel(Classic):
    """The classic protocol as its makers document it."""

    name = "perfectpanel"
    capabilities = Capabilities(
        actions=CLASSIC_ACTIONS,
        batches=frozenset({Action.STATUS, Action.REFILL, Action.REFILL_STATUS, Action.CANCEL}),
    )
    # Some panels of the family answer with the numbers of their database (protocol.md 1.5).
    statuses = MappingProxyType(
        {
            **reading.STATUSES,
            "0": OrderStatus.PENDING,
            "1": OrderStatus.PROCESSING,
            "2": OrderStatus.COMPLETED,
            "3": OrderStatus.PARTIAL,
            "4": OrderStatus.CANCELED,
            "5": OrderStatus.REFUNDED,
        }
    )

    def request(self, fields: Fields, key: str) -> Request:  # noqa: ARG002 - it is among the fields
        """Return the form that the page's own PHP class sends."""
        return writing.form(fields)


PERFECTPANEL = PerfectPanel()
