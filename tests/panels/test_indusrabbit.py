from types import MappingProxyType

from chalicelib.actions import PlaceOrder
from chalicelib.panels.indusrabbit import INDUSRABBIT

from .conformance import Conformance
from .transcripts import KEY


class TestIndusRabbit(Conformance):
    dialect = INDUSRABBIT
    content_type = "application/x-www-form-urlencoded"
    key_field = "api_token"
    names = MappingProxyType({"service": "package", "comments": "custom_data"})

    def test_comments_and_their_number_are_the_callers_own(self) -> None:
        extra = {"comments": "one\r\n\r\ntwo\u2028half", "custom_data": "theirs"}
        sent = self.sent(INDUSRABBIT.encode(PlaceOrder(12, "https://example.com", 99, extra=extra), KEY))
        assert (sent["quantity"], sent["custom_data"]) == ("2", "one\ntwo\u2028half")
