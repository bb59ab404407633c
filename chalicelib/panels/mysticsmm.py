"""mysticsmm.com's dialect: a JSON POST with the key in the body.

It answers an ``add`` with 201, has two forms of error, and publishes one request per second; what is faster gets
"temporary throttling (HTTP 429)".
"""

from chalicelib.actions import Action, Reason
from chalicelib.clock import SECOND
from chalicelib.panels import writing
from chalicelib.panels.classic import Classic
from chalicelib.panels.dialect import Capabilities, Request
from chalicelib.panels.writing import Fields


class MysticSmm(Classic):
    """The classic protocol in JSON. Its ``add`` documents no ``runs`` and ``interval``."""

    name = "mysticsmm"
    capabilities = Capabilities(
        actions=frozenset({Action.BALANCE, Action.SERVICES, Action.ADD, Action.STATUS}),
        interval=SECOND,
        burst=1,
        throttled_means_not_placed=True,
        sends_dripfeed=False,
        types=frozenset({"Default"}),
    )
    # "500 | Server Error | Service/provider not found or internal error": the text tells the two apart.
    refuses_at_5xx = frozenset({Reason.SERVICE})

    def request(self, fields: Fields, key: str) -> Request:  # noqa: ARG002 - it is among the fields
        """Return the JSON of the document's examples."""
        return writing.document(fields)


MYSTICSMM = MysticSmm()
