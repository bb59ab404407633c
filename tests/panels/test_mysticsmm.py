import pytest

from chalicelib.actions import PlaceOrder
from chalicelib.panels.mysticsmm import MYSTICSMM

from .conformance import Conformance

ADD = PlaceOrder(1, "https://instagram.com/username", 1000)


class TestMysticSmm(Conformance):
    dialect = MYSTICSMM
    content_type = "application/json"

    def test_it_is_asked_once_a_second(self) -> None:
        assert (MYSTICSMM.capabilities.interval, MYSTICSMM.capabilities.burst) == (1_000_000, 1)

    @pytest.mark.parametrize("body", [b'{"error": "Insufficient balance in wallet."}', b'{"success": false}', b""])
    def test_at_500_only_a_missing_service_is_a_refusal(self, body: bytes) -> None:
        assert self.decode(ADD, body, 500) is None
