"""The five panels, as rows of data."""

from dataclasses import dataclass
from decimal import Decimal

from sandbox import services, template
from sandbox.dialect import Dialect
from sandbox.mysticsmm import Mysticsmm
from sandbox.services import Service
from sandbox.smmafrica import Smmafrica
from sandbox.template import Template


@dataclass(frozen=True)
class Limit:
    """So many calls of one key in any window of so many seconds."""

    calls: int
    window: float


JITTER = 0.9
"""Panels count at arrival. Calls sent a second apart may arrive a little closer: the window is that much shorter."""


@dataclass(frozen=True)
class Profile:
    """What distinguishes one panel."""

    slug: str
    path: str
    dialect: Dialect
    catalog: tuple[Service, ...]
    balance: Decimal
    first_order: int
    limit: Limit | None = None
    language_keys: bool = False


_EXAMPLE_BALANCE = Decimal("100.84292")
_EXAMPLE_ORDER = 23501

PROFILES = (
    Profile(
        slug="smosale",
        path="/smosale/api/v2",
        dialect=Template(template.EVERYTHING),
        catalog=services.SMOSALE,
        balance=_EXAMPLE_BALANCE,
        first_order=_EXAMPLE_ORDER,
    ),
    Profile(
        slug="smmrich",
        path="/smmrich/api/v2",
        dialect=Template(template.WITHOUT_CANCEL),
        catalog=services.SMMRICH,
        balance=_EXAMPLE_BALANCE,
        first_order=_EXAMPLE_ORDER,
        language_keys=True,
    ),
    Profile(
        slug="smmleaf",
        path="/smmleaf/api/v2",
        dialect=Template(template.WITHOUT_CANCEL),
        catalog=services.SMMLEAF,
        balance=_EXAMPLE_BALANCE,
        first_order=_EXAMPLE_ORDER,
    ),
    Profile(
        slug="mysticsmm",
        path="/mysticsmm/api/v2",
        dialect=Mysticsmm(),
        catalog=services.MYSTICSMM,
        balance=Decimal("150.00"),
        first_order=12345,
        # Its document says "1 request per second", and HTTP 429 beyond.
        limit=Limit(calls=1, window=JITTER),
    ),
    Profile(
        slug="smmafrica",
        path="/smmafrica/api/v3",
        dialect=Smmafrica(),
        catalog=services.SMMAFRICA,
        balance=_EXAMPLE_BALANCE,
        first_order=1000000,
        # Its document says "a few requests per second is safe"; where that ends it does not say.
        limit=Limit(calls=5, window=JITTER),
    ),
)
