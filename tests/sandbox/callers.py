"""Callers of the pretend panels, each in its panel's own manner, and a clock that tests move."""

from dataclasses import dataclass
from typing import Any

import httpx

from sandbox.server import Sandbox

JSON_PANELS = frozenset({"mysticsmm", "smmafrica"})
TEMPLATE_PANELS = ("smosale", "smmrich", "smmleaf")
PANELS = (*TEMPLATE_PANELS, "mysticsmm", "smmafrica")
LINK = "https://instagram.com/username"


class FakeClock:
    """Seconds that pass only when told to."""

    def __init__(self, now: float = 1_760_000_000.0) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now

    def forward(self, seconds: float) -> None:
        self.now += seconds


@dataclass(frozen=True)
class Caller:
    """Speaks to one panel as its document says, and to its admin path."""

    slug: str
    http: httpx.Client
    sandbox: Sandbox

    @property
    def url(self) -> str:
        return self.sandbox.url + self.sandbox.panels[self.slug].profile.path

    @property
    def key(self) -> str:
        return f"sandbox-{self.slug}-key"

    def post(self, **fields: Any) -> httpx.Response:
        filled = {"key": self.key, **fields}
        if self.slug in JSON_PANELS:
            return self.http.post(self.url, json=filled)
        return self.http.post(self.url, data=filled)

    def ask(self, action: str, **fields: Any) -> Any:
        return self.post(action=action, **fields).json()

    def add(self, link: str = LINK, **fields: Any) -> str:
        reply = self.ask("add", **{"service": 1, "quantity": 1000, "link": link, **fields})
        return str(reply["order"])

    def status(self, order: str) -> Any:
        return self.ask("status", order=order)

    def balance(self) -> str:
        return str(self.ask("balance")["balance"])

    def admin(self, method: str, resource: str, json: object = None) -> Any:
        return self.admin_response(method, resource, json).raise_for_status().json()

    def admin_response(self, method: str, resource: str, json: object = None) -> httpx.Response:
        return self.http.request(method, f"{self.sandbox.url}/_admin/{self.slug}/{resource}", json=json)

    def fault(self, name: str, **options: object) -> None:
        self.admin("POST", "faults", {"fault": name, **options})

    def adds(self) -> list[dict[str, Any]]:
        """What the panel itself says about the orders it was asked for."""
        logged: list[dict[str, Any]] = self.admin("GET", "requests?action=add")
        return logged
