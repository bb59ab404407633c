from types import MappingProxyType

from chalicelib.panels.yoyomedia import YOYOMEDIA

from .conformance import Conformance


class TestYoyoMedia(Conformance):
    dialect = YOYOMEDIA
    content_type = None
    method = "GET"
    names = MappingProxyType({"service": "type", "quantity": "amount"})
