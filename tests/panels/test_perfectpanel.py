from urllib.parse import urlencode

import pytest

from chalicelib.actions import PlaceOrder
from chalicelib.panels.perfectpanel import PERFECTPANEL

from .conformance import Conformance
from .transcripts import KEY


class TestPerfectPanel(Conformance):
    dialect = PERFECTPANEL
    content_type = "application/x-www-form-urlencoded"

    @pytest.mark.parametrize("link", ["https://example.com/?a=b&c=d", "@name", "https://пример.рф/é 👍"])
    def test_add_is_encoded_as_the_official_php_class_does(self, link: str) -> None:
        # It joins `name=urlencode(value)` with `&`: key, action, then the order's fields as given.
        request = PERFECTPANEL.encode(PlaceOrder(1, link, 100, runs=2, interval=5), KEY)
        fields = {"key": KEY, "action": "add", "service": 1, "link": link, "quantity": 100, "runs": 2, "interval": 5}
        assert request.body == urlencode(fields).encode()
