"""A panel's catalog: services, their types, and the starting catalog of each of the five panels."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from decimal import Decimal, InvalidOperation
from types import MappingProxyType

EXTRAS = ("description", "drop_rate", "start_time", "speed", "reliability")


@dataclass(frozen=True)
class Service:
    """One line of a catalog."""

    id: int
    name: str
    type: str
    category: str
    rate: Decimal
    """Keeps the digits it was written with: `0.90` and `8` are both listed as such."""
    min: int
    max: int
    refill: bool = False
    cancel: bool = False
    dripfeed: bool | None = None
    """None where the panel's list does not mention drip-feed; then it is not possible either."""
    extras: Mapping[str, str] = field(default_factory=dict)

    def as_record(self) -> dict[str, object]:
        """The service as JSON, in the words of the protocol."""
        record: dict[str, object] = {
            "service": self.id,
            "name": self.name,
            "type": self.type,
            "category": self.category,
            "rate": f"{self.rate:f}",
            "min": self.min,
            "max": self.max,
            "refill": self.refill,
            "cancel": self.cancel,
        }
        if self.dripfeed is not None:
            record["dripfeed"] = self.dripfeed
        return record | dict(self.extras)


def service_from(record: Mapping[str, object]) -> Service:
    """Read a service as `as_record` writes it.

    Raises:
        ValueError: if the record is no service.
    """
    try:
        dripfeed = record.get("dripfeed")
        return Service(
            id=int(str(record["service"])),
            name=str(record["name"]),
            type=str(record.get("type", "Default")),
            category=str(record.get("category", "")),
            rate=Decimal(str(record["rate"])),
            min=int(str(record["min"])),
            max=int(str(record["max"])),
            refill=bool(record.get("refill")),
            cancel=bool(record.get("cancel")),
            dripfeed=None if dripfeed is None else bool(dripfeed),
            extras={name: str(record[name]) for name in EXTRAS if name in record},
        )
    except (KeyError, ValueError, InvalidOperation) as error:
        raise ValueError(f"not a service: {error!r}") from None


# The first two services are the example of all three template documents, to the letter.
_FOLLOWERS = Service(1, "Followers", "Default", "First Category", Decimal("0.90"), 50, 10000, refill=True, cancel=True)
_COMMENTS = Service(2, "Comments", "Custom Comments", "Second Category", Decimal(8), 10, 1500, cancel=True)

_TEMPLATE: Mapping[str, Service] = MappingProxyType(
    {
        service.type: service
        for service in (
            Service(0, "Likes", "Default", "Instagram", Decimal("0.25"), 10, 50000, dripfeed=True, cancel=True),
            Service(0, "Website SEO Clicks", "SEO", "Websites", Decimal("1.10"), 100, 20000),
            Service(0, "Mentions and Hashtags", "Mentions with Hashtags", "Instagram", Decimal("2.40"), 20, 5000),
            Service(0, "Mentions by List", "Mentions Custom List", "Instagram", Decimal("3.00"), 5, 2000, cancel=True),
            Service(0, "Mentions by Hashtag", "Mentions Hashtag", "Instagram", Decimal("2.10"), 20, 5000),
            Service(0, "Mentions of Followers", "Mentions User Followers", "Instagram", Decimal("2.20"), 20, 5000),
            Service(0, "Mentions of Likers", "Mentions Media Likers", "Instagram", Decimal("2.30"), 20, 5000),
            Service(0, "Mentions", "Mentions", "Instagram", Decimal("2.00"), 20, 5000),
            Service(0, "Starter Package", "Package", "Packages", Decimal("4.50"), 1, 1, refill=True, cancel=True),
            Service(0, "Comments Package", "Custom Comments Package", "Packages", Decimal("6.75"), 1, 1),
            Service(0, "Comment Likes", "Comment Likes", "YouTube", Decimal("1.35"), 10, 3000, cancel=True),
            Service(0, "Poll Votes", "Poll", "Telegram", Decimal("0.80"), 100, 50000),
            Service(0, "Replies to Comments", "Comment Replies", "YouTube", Decimal("9.50"), 5, 500),
            Service(0, "Group Invites", "Invites from Groups", "Facebook", Decimal("1.75"), 100, 10000),
            Service(0, "Auto Likes", "Subscriptions", "Instagram", Decimal("0.35"), 10, 5000, cancel=True),
            Service(0, "Web Visitors", "Web Traffic", "Websites", Decimal("0.15"), 100, 1000000, dripfeed=True),
        )
    }
)


def _template(*types: str) -> tuple[Service, ...]:
    listed = (service_from(_TEMPLATE[kind].as_record() | {"service": 3 + place}) for place, kind in enumerate(types))
    return (_FOLLOWERS, _COMMENTS, *listed)


SMOSALE = _template(
    "Default", "Package", "Custom Comments Package", "Mentions Custom List", "Mentions Hashtag",
    "Comment Likes", "Poll", "Subscriptions", "Web Traffic", "Invites from Groups",
)  # fmt: skip
SMMRICH = _template(
    "Default", "SEO", "Mentions with Hashtags", "Mentions User Followers", "Mentions Media Likers",
    "Mentions", "Comment Replies", "Subscriptions", "Package", "Poll",
)  # fmt: skip
SMMLEAF = _template(
    "Default", "Package", "Custom Comments Package", "Subscriptions", "Web Traffic", "Mentions Custom List",
    "Comment Likes",
)  # fmt: skip


def _table(rows: Iterable[tuple[str, str, str, int, int, bool, bool, bool | None]]) -> tuple[Service, ...]:
    return tuple(
        Service(place, name, "Default", category, Decimal(rate), least, most, refill, cancel, dripfeed)
        for place, (name, category, rate, least, most, refill, cancel, dripfeed) in enumerate(rows, start=1)
    )


# Service 1 is the document's example.
MYSTICSMM = _table(
    [
        ("Instagram Followers - Premium", "Instagram", "2.50", 100, 100000, True, False, False),
        ("Instagram Likes", "Instagram", "0.40", 50, 50000, False, False, True),
        ("Instagram Reel Views", "Instagram", "0.05", 100, 1000000, False, False, True),
        ("YouTube Views", "YouTube", "1.20", 500, 500000, True, False, False),
        ("YouTube Subscribers", "YouTube", "14.00", 50, 5000, True, True, False),
        ("TikTok Followers", "TikTok", "3.10", 100, 50000, True, False, False),
        ("TikTok Likes", "TikTok", "0.90", 50, 20000, False, True, False),
        ("Telegram Members", "Telegram", "1.05", 100, 100000, False, False, False),
    ]
)

_AFRICAN = _table(
    [
        ("Service Name", "First Category", "0.90", 50, 10000, True, True, None),
        ("Instagram Likes", "Instagram", "0.30", 20, 50000, False, True, None),
        ("Instagram Followers Kenya", "Instagram", "5.85", 100, 20000, True, False, None),
        ("TikTok Views", "TikTok", "0.02", 100, 10000000, False, False, None),
        ("TikTok Followers", "TikTok", "3.40", 50, 30000, True, True, None),
        ("YouTube Watch Hours", "YouTube", "12.75", 100, 4000, True, False, None),
        ("Facebook Page Likes", "Facebook", "2.15", 100, 15000, True, True, None),
        ("Telegram Members", "Telegram", "1.60", 100, 50000, False, False, None),
    ]
)
# In the order of EXTRAS; the first row is the document's example.
_AFRICAN_EXTRAS = (
    ("Service Description", "Almost No", "2 mins", "12 mins", "Poor"),
    ("Likes from mixed accounts", "Low", "1 min", "5000 per day", "Good"),
    ("Followers from Kenya", "Medium", "30 mins", "500 per day", "Fair"),
    ("Views", "No drop", "Instant", "1M per day", "Excellent"),
    ("Followers from mixed accounts", "Low", "10 mins", "2000 per day", "Good"),
    ("Public watch hours", "Almost No", "12 hours", "100 per day", "Fair"),
    ("Likes for pages", "Medium", "1 hour", "1000 per day", "Good"),
    ("Members of public channels", "High", "5 mins", "10000 per day", "Poor"),
)
SMMAFRICA = tuple(
    service_from(service.as_record() | dict(zip(EXTRAS, texts, strict=True)))
    for service, texts in zip(_AFRICAN, _AFRICAN_EXTRAS, strict=True)
)
