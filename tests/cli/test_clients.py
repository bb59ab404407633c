from typing import Any

import pytest

from chalicelib.keys import parse_client_key
from chalicelib.ports import Admitted, Stranger
from cli.console import Console
from cli.providers import new_provider
from tests.cli.conftest import Shell


def admission(console: Console, key: str, *, after: int = 0) -> Any:
    """Say what the gateway thinks of a key, so many seconds from now."""
    parsed = parse_client_key(key)
    assert parsed is not None
    return console.parts.directory.admit(parsed, now=console.parts.clock.now() + after * 1_000_000)


def test_create_prints_a_key_that_works(shell: Shell, acme: str, stage: Console) -> None:
    created = shell.ok("clients", "create", acme)
    assert set(created) == {"client", "key"}
    assert created["client"].startswith("acme.")
    assert isinstance(admission(stage, created["key"]), Admitted)


def test_create_takes_every_option(shell: Shell, smosale: str, acme: str, stage: Console) -> None:
    options = (
        f"--name shop --actions balance,status --providers {smosale} --expires 90d"
        " --allow-ip 203.0.113.0/24 --allow-ip 2001:db8::/32 --allow-ip 198.51.100.7"
    )
    created = shell.ok("clients", "create", acme, *options.split())
    assert shell.ok("clients", "list", acme)["clients"][0]["last_used"] is None
    scope = admission(stage, created["key"]).scope
    networks = ["203.0.113.0/24", "2001:db8::/32", "198.51.100.7/32"]
    assert (sorted(scope.actions), sorted(scope.providers)) == (["balance", "status"], [smosale])
    assert list(scope.networks) == networks
    [listed] = shell.ok("clients", "list", acme)["clients"]
    assert listed.pop("created") < listed.pop("last_used") < listed.pop("expires")
    assert len(listed.pop("keys")) == 1
    assert listed == {
        "client": created["client"],
        "name": "shop",
        "test": False,
        "actions": ["balance", "status"],
        "providers": [smosale],
        "allow_ip": networks,
        "revoked": False,
    }
    assert isinstance(admission(stage, created["key"], after=91 * 86_400), Stranger)


def test_rotate_lets_the_old_key_work_for_a_while(shell: Shell, acme: str, stage: Console) -> None:
    created = shell.ok("clients", "create", acme)
    rotated = shell.ok("clients", "rotate", created["client"], "--overlap", "1h")
    assert set(rotated) == {"client", "key"}
    assert rotated["client"] == created["client"]
    assert isinstance(admission(stage, created["key"]), Admitted)
    assert isinstance(admission(stage, created["key"], after=3700), Stranger)
    assert isinstance(admission(stage, rotated["key"], after=3701), Admitted)


def test_rotate_without_overlap_ends_the_old_key_at_once(shell: Shell, acme: str, stage: Console) -> None:
    created = shell.ok("clients", "create", acme)
    rotated = shell.ok("clients", "rotate", created["client"], "--overlap", "0s")
    assert isinstance(admission(stage, created["key"]), Stranger)
    assert isinstance(admission(stage, rotated["key"]), Admitted)


def test_revoke_ends_all_keys(shell: Shell, acme: str, stage: Console) -> None:
    created = shell.ok("clients", "create", acme)
    rotated = shell.ok("clients", "rotate", created["client"])
    assert shell.ok("clients", "revoke", created["client"]) == {"client": created["client"], "revoked": True}
    assert isinstance(admission(stage, created["key"]), Stranger)
    assert isinstance(admission(stage, rotated["key"]), Stranger)
    assert shell.ok("clients", "list", acme)["clients"][0]["revoked"] is True
    assert "was revoked" in shell.failure("clients", "rotate", created["client"])


def test_an_expired_client_is_not_rotated(shell: Shell, acme: str, stage: Console) -> None:
    client = stage.clients.create(acme, expires=stage.parts.clock.now()).client.id
    assert "has expired" in shell.failure("clients", "rotate", client)


def test_a_client_cannot_have_more_than_its_tenant(shell: Shell, stage: Console) -> None:
    for slug in ("first", "second"):
        url = f"https://{slug}.example/api/v2"
        stage.registry.add_provider(new_provider(stage.parts.settings, slug, "perfectpanel", url))
    shell.ok("tenants", "create", "beta", "--providers", "first")
    assert "There is no provider typo" in shell.failure("clients", "create", "beta", "--providers", "typo")
    assert "may not use second" in shell.failure("clients", "create", "beta", "--providers", "first,second")
    shell.ok("clients", "create", "beta", "--providers", "first")


@pytest.mark.parametrize(
    "arguments", [("create", "nobody"), ("list", "nobody"), ("rotate", "nobody.abcdef"), ("revoke", "nobody.abcdef")]
)
def test_what_is_not_there(shell: Shell, arguments: tuple[str, ...]) -> None:
    assert shell.failure("clients", *arguments).startswith("There is no ")


@pytest.mark.parametrize(
    ("arguments", "advice"),
    [
        ("create acme --actions fly", "balance"),
        ("create acme --expires soon", "90d"),
        ("create acme --expires 0s", "1m"),
        ("create acme --allow-ip 10.0.0.1/8", "host bits"),
        ("create acme --allow-ip home", "203.0.113.0/24"),
        ("rotate acme.abcdef --overlap 8d", "7d"),
        ("rotate acme.abcdef --overlap -1s", "24h"),
        ("create", "TENANT"),
    ],
)
def test_wrong_use(shell: Shell, arguments: str, advice: str) -> None:
    assert advice in shell.misuse("clients", *arguments.split())


def test_people_see_the_key_once(shell: Shell, acme: str) -> None:
    outcome = shell("clients", "create", acme)
    assert "pg_live_acme_" in outcome.out
    assert "shown only now" in outcome.out
    assert "pg_live_" not in shell("clients", "list", acme).out
