"""Canary keys through the whole of what panels can do, and no piece of one is found afterwards (contract 8.5).

The panels are in this process, each with a key that occurs nowhere else and that every encoding changes. Once each of
the sandbox's faults meets each call; once each text of a reply repeats the key, in every spelling. Then all that left
the process is searched: answers with their headers, log lines, and the table.
"""

import io
import json
import logging
import secrets
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import cycle, product
from types import MappingProxyType
from typing import Any

import pytest

from chalicelib import jobs, log
from chalicelib.clock import SECOND
from chalicelib.errors import AnswerLost, PanelgateError
from chalicelib.model import Account, Funding, Tenant
from chalicelib.panels.dialect import Reply, Request
from sandbox.faults import FAULTS, ActiveFault
from tests.api.http import Answered, v2, v3
from tests.market import Market
from tests.spellings import ESCAPED, SPELLED, left_of
from tests.world import LINK

# What a reply may be that repeats a key: KEY as somebody spells it, PART the beginning of that.
REPLIES: Mapping[str, tuple[int, str]] = MappingProxyType(
    {
        "error": (200, '{"error":"Invalid key KEY for you","message":"KEY"}'),
        "cut off": (200, '{"error":"Key PART... is wrong"}'),
        "order and error": (200, '{"order":ORDER,"error":"KEY","charge":"KEY"}'),
        "status": (200, '{"status":"KEY","charge":"1","currency":"KEY","remains":"KEY","start_count":"KEY"}'),
        "refill": (200, '{"refill":"KEY","status":"KEY"}'),
        "balance": (200, '{"balance":"1","currency":"KEY"}'),
        "services": (
            200,
            (
                '[{"service":1,"name":"Mine KEY","type":"Default","category":"PART","rate":"1","min":"1","max":"9999",'
                '"description":"KEY","refill":true,"cancel":true,"dripfeed":true},{"service":"KEY","name":"KEY"}]'
            ),
        ),
        "names": (200, '{"KEY":{"KEY":"KEY"}}'),
        "page": (403, "<html><title>Forbidden KEY</title><body>KEY</body></html>"),
        "text": (500, "no JSON: KEY"),
        "broken": (200, '{"error":"KEY'),
    }
)
# Larger replies end at the sender's cap, which is not here.
CAP = 2_000_000


@dataclass
class Parrot:
    """The way to the panels; where ``says`` is set, it is what they answer to everything."""

    market: Market
    says: Callable[[str], tuple[int, str]] | None = None
    heard: set[str] = field(default_factory=set)

    def send(self, url: str, request: Request, *, deadline: float, send_by: float | None = None) -> Reply:
        network, slug = self.market.network, url.split("/")[3]
        panel = network.panels[slug]
        key = panel.keys[0]
        fault = panel.faults[0].kind if panel.faults else None
        reply = network.send(url, request, deadline=deadline, send_by=send_by)
        self.heard.add(network.keys[-1][2])
        if (fault is not None and not fault.answers) or len(reply.body) > CAP:
            raise AnswerLost("connection reset")
        if self.says is None:
            return reply
        status, text = self.says(key)
        return Reply(status, {"content-type": "application/json", "x-debug": key}, text.encode())


@dataclass
class Scene:
    """A market whose panels have canaries for keys, and all that it said."""

    market: Market
    parrot: Parrot
    canaries: Mapping[str, str]
    logged: io.StringIO
    answers: list[str] = field(default_factory=list)
    placed: dict[str, list[int]] = field(default_factory=dict)
    direct: dict[str, str] = field(default_factory=dict)

    def furnish(self) -> None:
        """Have orders at each panel, and a tenant that sees its balance there."""
        for slug in self.canaries:
            self.placed[slug] = [v3(self.market, self.order(slug)).json["order"] for _ in range(2)]
            tenant = Tenant(
                id=f"at-{slug}", funding=Funding.PROVIDER, providers=frozenset({slug}), interval=1, burst=1000
            )
            self.direct[slug] = self.market.add_tenant(tenant, credit=0)

    def order(self, slug: str) -> dict[str, Any]:
        self.market.time.at += 2 * SECOND
        link = f"{LINK}/{secrets.token_hex(4)}"
        return {"action": "add", "service": self.market.service(slug, "Default"), "link": link, "quantity": 1000}

    def meet(self, slug: str) -> None:
        """Make at one panel each call that there is."""
        one, two = self.placed[slug]
        add = {**self.order(slug), "idempotency_key": secrets.token_hex(8)}
        for fields in (
            add,
            add,
            {"action": "status", "order": one},
            {"action": "status", "orders": [one, two]},
            {"action": "refill", "order": one},
            {"action": "refill", "orders": [one, two]},
            {"action": "cancel", "orders": [one, two]},
            {"action": "services"},
            {"action": "orders", "limit": 5},
        ):
            self.market.time.at += 20 * SECOND
            self.hear(v3(self.market, fields))
        self.hear(v2(self.market, {"action": "balance", "key": self.direct[slug]}))
        self.hear(v2(self.market, {"action": "cancel", "order": two}))
        with suppress(PanelgateError):
            jobs.sync_catalog(self.market.parts, self.market.registry.provider(slug))

    def hear(self, answer: Answered) -> None:
        self.answers.append(f"{answer.status} {answer.headers} {answer.text}")

    def search(self) -> None:
        """Expect that every canary was sent, and that no piece of one is anywhere."""
        assert set(self.canaries.values()) <= self.parrot.heard, "not every canary was sent: this shows nothing"
        table = self.market.parts.table
        pages = table.client.get_paginator("scan").paginate(TableName=table.name)
        places = {
            "answers": "\n".join(self.answers),
            "log": self.logged.getvalue(),
            "table": "\n".join(json.dumps(item, default=str) for page in pages for item in page["Items"]),
            "vault": repr(vars(self.market.parts.vault)),
        }
        found = {place: left_of(self.canaries.values(), text) for place, text in places.items()}
        assert not any(found.values()), f"pieces of {self.canaries} are found: {found}"


@pytest.fixture
def scene(market: Market, monkeypatch: pytest.MonkeyPatch) -> Iterator[Scene]:
    canaries = {slug: f"cN/{secrets.token_hex(8)}+{secrets.token_hex(8)}=\"x'<&" for slug in market.network.panels}
    for slug, key in canaries.items():
        market.panel(slug).keys = [key]
        market.put_key(Account(slug), key, token="2" * 32)
    parrot = Parrot(market)
    market.parts = market.twin(sender=parrot)
    root, written = logging.getLogger(), io.StringIO()
    handlers = root.handlers
    monkeypatch.setattr(sys, "stderr", written)
    log.configure()
    scene = Scene(market, parrot, canaries, written)
    scene.furnish()
    yield scene
    root.handlers = handlers


def test_no_fault_of_a_panel_brings_a_key_out(scene: Scene) -> None:
    for slug in scene.canaries:
        panel = scene.market.panel(slug)
        for fault, kind in FAULTS.items():
            if kind.only in (None, (slug, "add")):
                panel.faults[:] = [ActiveFault(fault=fault)]
                scene.meet(slug)
        panel.faults.clear()
    scene.market.time.at += 700 * SECOND
    jobs.sweep_orders(scene.market.parts)
    jobs.settle_orders(scene.market.parts)
    assert "outcome unknown" in scene.logged.getvalue(), "this is not our log"
    scene.search()


def test_no_reply_that_repeats_a_key_brings_it_out(scene: Scene) -> None:
    """Each reply in each spelling, the panels in turn."""
    numbers, slugs = iter(range(900_001, 10**6)), cycle(scene.canaries)
    for (status, template), spelled in product(REPLIES.values(), [*SPELLED.values(), *ESCAPED.values()]):

        def says(
            key: str, status: int = status, template: str = template, spelled: Callable[[str], str] = spelled
        ) -> tuple[int, str]:
            in_json = json.dumps(spelled(key))[1:-1]
            said = template.replace("KEY", in_json).replace("PART", in_json[:19])
            return status, said.replace("ORDER", str(next(numbers)))

        scene.parrot.says = says
        scene.meet(next(slugs))
    scene.parrot.says = None
    assert "[redacted]" in scene.logged.getvalue(), "no reply reached the log: this shows nothing"
    scene.search()
