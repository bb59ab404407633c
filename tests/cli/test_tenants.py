import re
from decimal import Decimal

import pytest

from cli.console import Console
from tests.cli.conftest import Shell

DEFAULTS = {
    "tenant": "acme",
    "active": True,
    "funding": "wallet",
    "ids": "global",
    "rate": "10/s",
    "burst": 20,
    "markup": "0%",
    "providers": None,
    "services": None,
    "origins": [],
    "require_idempotency": False,
    "dedupe": "0s",
    "daily_spend": None,
    "refuse_duplicate_link": False,
    "own_keys": [],
}


def test_create_has_the_contracts_defaults(shell: Shell) -> None:
    assert shell.ok("tenants", "create", "acme") == DEFAULTS
    assert shell.ok("tenants", "show", "acme") == DEFAULTS
    assert shell.ok("tenants", "list") == {"tenants": [DEFAULTS]}


def test_create_takes_every_option(shell: Shell, smosale: str) -> None:
    options = (
        f"--funding provider --rate 300/m --burst 5 --markup 12.5% --providers {smosale} --services 1001,2001"
        " --origins https://shop.example,http://localhost:3000/ --dedupe 120s --require-idempotency --ids native"
        " --daily-spend 50.25 --refuse-duplicate-link"
    )
    created = shell.ok("tenants", "create", "acme", *options.split())
    assert created == {
        "tenant": "acme",
        "active": True,
        "funding": "provider",
        "ids": "native",
        "rate": "5/s",
        "burst": 5,
        "markup": "12.5%",
        "providers": [smosale],
        "services": [1001, 2001],
        "origins": ["http://localhost:3000", "https://shop.example"],
        "require_idempotency": True,
        "dedupe": "2m",
        "daily_spend": Decimal("50.25"),
        "refuse_duplicate_link": True,
        "own_keys": [],
    }
    assert shell.ok("tenants", "show", "acme") == created


def test_set_turns_everything_back(shell: Shell, smosale: str, stage: Console) -> None:
    shell.ok("tenants", "create", "acme", "--providers", smosale, "--services", "1001", "--funding", "provider")
    shell.ok("tenants", "set", "acme", "--origins", "https://shop.example", "--require-idempotency", "--dedupe", "2m")
    assert stage.parts.directory.origin_listed("https://shop.example", fresh=True)
    shell.ok("tenants", "set", "acme", "--markup", "10%", "--daily-spend", "0.000001", "--refuse-duplicate-link")
    changed = shell.ok("tenants", "show", "acme")
    assert (changed["markup"], changed["daily_spend"]) == ("10%", Decimal("0.000001"))
    assert changed["refuse_duplicate_link"] is changed["require_idempotency"] is True
    back = "--funding wallet --providers all --services all --origins none --dedupe 0s --markup 0% --daily-spend none"
    shell.ok("tenants", "set", "acme", "--no-require-idempotency", "--no-refuse-duplicate-link", *back.split())
    assert shell.ok("tenants", "show", "acme") == DEFAULTS
    assert not stage.parts.directory.origin_listed("https://shop.example", fresh=True)


def test_suspend_and_resume(shell: Shell, acme: str) -> None:
    assert shell.ok("tenants", "suspend", acme)["active"] is False
    assert shell.ok("tenants", "show", acme)["active"] is False
    assert shell.ok("tenants", "resume", acme)["active"] is True


def test_a_name_is_given_once(shell: Shell, acme: str) -> None:
    assert shell.failure("tenants", "create", acme) == "There is a tenant acme already."


@pytest.mark.parametrize("verb", ["show", "suspend", "resume"])
def test_a_tenant_that_is_not_there(shell: Shell, verb: str) -> None:
    assert shell.failure("tenants", verb, "nobody") == "There is no tenant nobody."


def test_providers_must_exist(shell: Shell, smosale: str) -> None:
    error = shell.failure("tenants", "create", "acme", "--providers", f"{smosale},typo")
    assert error == "There is no provider typo. There are: smosale."
    assert shell.ok("tenants", "list") == {"tenants": []}


@pytest.mark.parametrize(
    ("arguments", "advice"),
    [
        ("--funding provider", "--providers"),
        ("--ids native", "--providers"),
        ("--ids native --providers a,b", "exactly one"),
        ("--funding cash", "wallet"),
        ("--rate fast", "10/s"),
        ("--rate unlimited", "10/s"),
        ("--burst 0", "1"),
        ("--markup 10", "10%"),
        ("--markup -5%", "10%"),
        ("--markup 1e2%", "10%"),
        ("--providers Bad_Name", "commas"),
        ("--services 1,x", "commas"),
        ("--services 4294967296", "commas"),
        ("--origins shop.example", "https://"),
        ("--origins http://shop.example", "https://"),
        ("--origins https://shop.example/path", "without a path"),
        ("--origins https://u:p@shop.example", "https://"),
        ("--origins https://*.example", "https://"),
        ("--dedupe 2", "10m"),
        ("--dedupe 2d", "1d"),
        ("--daily-spend 0", "`none`"),
        ("--daily-spend -5", "`none`"),
        ("--daily-spend 5e2", "`none`"),
        ("--daily-spend 0.0000001", "6 decimals"),
        ("--daily-spend $5", "`none`"),
        ("--daily-spend 9999999999999", "`none`"),
    ],
)
def test_wrong_use(shell: Shell, arguments: str, advice: str) -> None:
    assert advice in shell.misuse("tenants", "create", "acme", *arguments.split())


def test_set_wants_something_to_change(shell: Shell, acme: str) -> None:
    assert "Say what to change" in shell.misuse("tenants", "set", acme)


def test_set_keeps_a_tenant_with_one_provider_at_one(shell: Shell, smosale: str) -> None:
    shell.ok("tenants", "create", "acme", "--providers", smosale, "--ids", "native")
    assert "exactly one" in shell.misuse("tenants", "set", "acme", "--providers", "all")


def test_people_read_lines(shell: Shell, acme: str) -> None:
    assert "clients create beta" in shell("tenants", "create", "beta").out
    shown = shell("tenants", "show", acme).out
    assert "10/s" in shown
    assert shown.count("all\n") == 2, "providers and services, but no limit of spending is not all"
    assert re.search(r"daily spend +none\n", shown)
    shell.ok("tenants", "set", acme, "--daily-spend", "50", "--refuse-duplicate-link")
    assert re.search(r"daily spend +50\n", shell("tenants", "show", acme).out)
    [heading, row] = shell("tenants", "list").out.splitlines()[:2]
    assert "  markup  daily spend  one per link  providers" in heading
    assert row.split() == [acme, "yes", "wallet", "10/s", "0%", "50", "yes", "all"]


def test_a_limit_of_spending_that_ends_leaves_nothing_in_the_item_that_every_request_writes(
    shell: Shell, acme: str, stage: Console
) -> None:
    shell.ok("tenants", "set", acme, "--daily-spend", "50", "--refuse-duplicate-link")
    shell.ok("tenants", "set", acme, "--daily-spend", "none", "--no-refuse-duplicate-link")
    item = stage.parts.table.get(f"T#{acme}", "TENANT")
    assert item is not None
    assert not item.keys() & {"daily_spend", "refuse_duplicate_link"}
