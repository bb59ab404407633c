"""A canary provider key runs through the panels' faults, and is then looked for everywhere it must not be."""

import json
import secrets
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from urllib.parse import quote

import httpx
import pytest

from chalicelib.model import Account, Funding
from cli.packaging import ROOT
from cli.seed import PANELS
from cli.system import LocalSystem
from sandbox.faults import FAULTS
from tests.deployed.conftest import Deployment, SandboxPanel
from tests.deployed.test_way import link, quantity
from tests.spellings import left_of

pytestmark = pytest.mark.deployed
QUICK = (
    *("lost", "reset", "reset_after", "429", "500", "html", "empty", "bom", "php_notice", "truncated", "garbage_json"),
    *("echo_key", "echo_key_ok", "redirect", "invalid_key", "no_funds", "unknown_error", "wrong_type", "deep_json"),
    *("huge", "slow", "502", "503", "504", "late"),
)

# Each of these lasts until the gateway gives up: a read after 10 s, an `add` after 25 s.
SLOW = ("silent", "silent_before", "endless", "slow_headers", "slow_body")


def test_every_fault_is_met() -> None:
    assert {*QUICK, *SLOW, "pending"} == set(FAULTS)


@pytest.fixture
def canaries(deployment: Deployment, panels: Callable[[str], SandboxPanel]) -> Iterator[dict[str, str]]:
    """Give every provider a key that occurs nowhere else, with characters that encodings change.

    The panels know no other: where one is said to be bad, a container would stay with the key before for a while.
    """
    keys = {panel.slug: f'cnry/{secrets.token_hex(8)}+{secrets.token_hex(8)}="x' for panel in PANELS}
    for slug, key in keys.items():
        panels(slug).admin("PUT", "keys", {"keys": [key, f"sandbox-{slug}-key"]})
        _rotate(deployment, slug, key)
        panels(slug).admin("PUT", "keys", {"keys": [key]})
    try:
        yield keys
    finally:
        for slug, key in keys.items():
            panels(slug).admin("PUT", "keys", {"keys": [key, f"sandbox-{slug}-key"]})
            _rotate(deployment, slug, f"sandbox-{slug}-key")
            panels(slug).admin("PUT", "keys", {"keys": [f"sandbox-{slug}-key"]})


def _rotate(deployment: Deployment, slug: str, key: str) -> None:
    vault = deployment.parts.vault
    vault.promote(Account(slug), vault.store_pending(Account(slug), key, token=str(uuid.uuid4())).version)


def test_a_provider_key_is_found_nowhere(
    deployment: Deployment, panels: Callable[[str], SandboxPanel], canaries: dict[str, str], local: LocalSystem
) -> None:
    seen: list[str] = []
    with ThreadPoolExecutor(len(PANELS)) as threads:
        for texts in threads.map(lambda panel: _run_through_the_faults(deployment, panels, panel.slug), PANELS):
            seen += texts
    assert len(seen) > 100
    for slug, key in canaries.items():
        not_met = {*QUICK, *SLOW} - _faults_met_with(panels(slug), key)
        assert not not_met, f"the canary of {slug} did not meet {not_met}: this showed nothing of those"

    places = {
        "responses": "\n".join(seen),
        "logs": _all_logs(deployment),
        "table": _whole_table(deployment),
        "emulator": local.log("emulator").read_text(errors="replace"),
        "package": "".join(path.read_bytes().decode("latin-1") for path in (ROOT / ".build").glob("package-*/*")),
        "temporary files": _temporary_files(local),
    }
    assert "outcome unknown" in places["logs"], "the logs that were searched are not ours"
    found = {place: pieces for place, text in places.items() if (pieces := left_of(canaries.values(), text))}
    assert not found, f"pieces of {canaries} are found: {found}"


def _faults_met_with(panel: SandboxPanel, key: str) -> set[str | None]:
    """Return the faults that a panel did to the requests that carried a key."""
    escaped = json.dumps(key)[1:-1]
    forms = (quote(key, safe=""), escaped, json.dumps(escaped)[1:-1])
    return {one["fault"] for one in panel.requests() if any(form in json.dumps(one) for form in forms)}


def _run_through_the_faults(deployment: Deployment, panels: Callable[[str], SandboxPanel], slug: str) -> list[str]:
    """Meet every fault with every action; return all that callers saw, headers included."""
    paid = deployment.tenant(providers=frozenset({slug}))
    direct = deployment.tenant(providers=frozenset({slug}), funding=Funding.PROVIDER, credit=0)
    order: dict[str, Any] = {"service": deployment.service(slug), "quantity": quantity(deployment, slug)}
    placed, other = (deployment.v3(paid, action="add", link=link(), **order).json()["order"] for _ in range(2))
    texts: list[str] = []
    for fault in QUICK:
        panels(slug).fault(fault, count=6, **({"seconds": 1} if fault in ("slow", "late") else {}))
        replies: list[Any] = [
            deployment.v3(paid, action="add", link=link(), **order),
            deployment.v2(key=direct, action="balance"),
            deployment.v3(paid, action="status", orders=[placed, other]),
            deployment.v2(key=paid, action="refill", orders=f"{placed},{other}"),
            deployment.v2(key=paid, action="cancel", orders=f"{placed},{other}"),
            deployment.v3(paid, action="refill", order=placed),
        ]
        texts += [f"{reply.headers} {reply.text}" for reply in replies]
        panels(slug).calm()
    for fault in SLOW:
        number = deployment.v3(paid, action="add", link=link(), **order).json()["order"]
        panels(slug).fault(fault, action="status")  # each time: the schedules ask, too
        reply = deployment.v3(paid, action="status", order=number)
        assert reply.json()["stale"] is True, f"{fault} was not met"
        texts.append(f"{reply.headers} {reply.text}")
        panels(slug).calm()
    panels(slug).fault("pending" if slug == "smmafrica" else "silent", action="add", count=1)
    reply = deployment.v3(paid, action="add", link=link(), **order)
    assert reply.status_code == httpx.codes.ACCEPTED
    texts.append(f"{reply.headers} {reply.text}")
    return texts


def _all_logs(deployment: Deployment) -> str:
    logs: Any = deployment.aws.session.client("logs", endpoint_url=deployment.aws.endpoint)
    lines: list[str] = []
    for group in logs.describe_log_groups()["logGroups"]:
        for page in logs.get_paginator("filter_log_events").paginate(logGroupName=group["logGroupName"]):
            lines += [event["message"] for event in page["events"]]
    return "\n".join(lines)


def _whole_table(deployment: Deployment) -> str:
    client: Any = deployment.aws.session.client("dynamodb", endpoint_url=deployment.aws.endpoint)
    pages = client.get_paginator("scan").paginate(TableName=f"panelgate-{deployment.stage}")
    return "\n".join(str(item) for page in pages for item in page["Items"])


def _temporary_files(local: LocalSystem) -> str:
    files = [path for path in (local.folder / "tmp").rglob("*") if path.is_file() and path.stat().st_size < 5_000_000]
    return "".join(path.read_bytes().decode("latin-1") for path in files if path.suffix not in {".so", ".pyc"})
