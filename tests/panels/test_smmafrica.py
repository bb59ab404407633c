import json

from chalicelib.actions import GetBalance, Placed, PlaceOrder
from chalicelib.panels.smmafrica import SMMAFRICA

from .conformance import Conformance
from .transcripts import KEY

ADD = PlaceOrder(1, "https://instagram.com/username", 1000)


class TestSmmAfrica(Conformance):
    dialect = SMMAFRICA
    content_type = "application/json"

    def test_it_is_never_asked_more_than_three_times_a_second(self) -> None:
        assert 3 * SMMAFRICA.capabilities.interval >= 1_000_000
        assert SMMAFRICA.capabilities.burst == 3

    def test_the_documents_curl_and_its_tables_are_both_served(self) -> None:
        request = SMMAFRICA.encode(GetBalance(), KEY)
        assert request.headers["Authorization"] == f"Bearer {KEY}"
        assert json.loads(request.body) == {"action": "balance"} | {"key": KEY}

    def test_a_202_or_the_flag_alone_means_pending(self) -> None:
        assert self.decode(ADD, b'{"order": 5}', 202) == Placed(5, pending=True)
        assert self.decode(ADD, b'{"order": 5, "pending_confirmation": true}') == Placed(5, pending=True)
        assert self.decode(ADD, b'{"order": 5, "pending_confirmation": false}') == Placed(5)
        assert self.decode(ADD, b'{"pending_confirmation": true}', 202) is None
