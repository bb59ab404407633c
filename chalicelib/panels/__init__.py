"""Whom we speak to: the dialects and the one registry that names them."""

from collections.abc import Mapping
from types import MappingProxyType

from chalicelib.panels.dialect import Dialect
from chalicelib.panels.indusrabbit import INDUSRABBIT
from chalicelib.panels.mysticsmm import MYSTICSMM
from chalicelib.panels.perfectpanel import PERFECTPANEL
from chalicelib.panels.smmafrica import SMMAFRICA
from chalicelib.panels.yoyomedia import YOYOMEDIA

DIALECTS: Mapping[str, Dialect] = MappingProxyType(
    {dialect.name: dialect for dialect in (PERFECTPANEL, MYSTICSMM, SMMAFRICA, INDUSRABBIT, YOYOMEDIA)}
)
