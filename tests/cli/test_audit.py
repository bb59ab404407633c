from collections.abc import Iterator

import pytest

from chalicelib.aws.audit_rules import Finding
from cli.console import Console
from tests.cli.conftest import Shell
from tests.cli.test_orders import buy


@pytest.fixture
def order(shell: Shell, stage: Console, smosale: str, acme: str) -> int:
    """Return an order of a tenant with money."""
    del smosale
    shell.ok("wallet", "credit", acme, "100", "--reference", "start")
    return buy(stage, str(shell.ok("clients", "create", acme)["key"]), idempotency_key="k1")


def spoil_wallet(stage: Console, tenant: str) -> None:
    [wallet] = stage.parts.table.query(f"T#{tenant}", "WALLET")
    stage.parts.table.put_many([{**wallet, "available": wallet["available"] + 1}])


def test_a_stage_that_is_right(shell: Shell, order: int) -> None:
    del order
    shell.ok("tenants", "create", "beta")
    everything = shell.ok("audit", "verify")
    journal = everything.pop("journal")
    assert everything == {"tenants": ["acme", "beta"], "in_motion": []}
    assert shell.ok("audit", "verify", "--tenant", "acme") == {
        "tenants": ["acme"],
        "in_motion": [],
        "journal": journal,
    }
    outcome = shell("audit", "verify")
    assert (outcome.code, outcome.err) == (0, "")
    assert outcome.out.splitlines() == [
        "All records of acme, beta are right.",
        f"All 10 records of the journal are as they were written, up to {journal['hash']}.",
    ]


def test_a_stage_with_nobody(shell: Shell) -> None:
    verified = shell.ok("audit", "verify")
    assert (verified["tenants"], verified["in_motion"], verified["journal"]["records"]) == ([], [], 0)


def test_a_micro_too_much_is_named_with_both_figures(shell: Shell, stage: Console, order: int) -> None:
    del order
    spoil_wallet(stage, "acme")
    sentence = (
        "T#acme WALLET: its ledger adds up to 99.1 USD available and 0 USD held;"
        " the wallet has 99.100001 USD available and 0 USD held."
    )
    assert shell.failure("audit", "verify") == sentence
    outcome = shell("audit", "verify")
    assert (outcome.code, outcome.out, outcome.err) == (1, "", f"Error: {sentence}\n")


def test_the_first_of_several_is_named(shell: Shell, stage: Console, order: int) -> None:
    stage.parts.table.delete_many([("T#acme", f"LEDGER#HOLD#{order}")])
    assert shell.failure("audit", "verify") == (
        f"T#acme LEDGER#HOLD#{order}: order {order}, which is placed, calls for -0.9 USD available and 0.9 USD held;"
        " found no entry."
    )


def test_only_the_tenant_that_is_named_is_looked_at(shell: Shell, stage: Console, order: int) -> None:
    del order
    shell.ok("tenants", "create", "beta")
    shell.ok("wallet", "credit", "beta", "5", "--reference", "start")
    spoil_wallet(stage, "beta")
    shell.ok("audit", "verify", "--tenant", "acme")
    assert shell.failure("audit", "verify", "--tenant", "beta").startswith("T#beta WALLET: ")
    assert shell.failure("audit", "verify").startswith("T#beta WALLET: ")


def test_what_never_rests_is_told_of_and_is_no_failure(
    shell: Shell, acme: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def restless(*_given: object) -> Iterator[Finding]:
        yield Finding(f"T#{acme}", "WALLET", "it was written whenever it was looked at", in_motion=True)

    monkeypatch.setattr("cli.audit.findings", restless)
    assert shell.ok("audit", "verify")["in_motion"] == ["T#acme WALLET"]
    assert "Not seen at rest: T#acme WALLET" in shell("audit", "verify").out


def test_a_tenant_that_is_not_there(shell: Shell) -> None:
    assert shell.failure("audit", "verify", "--tenant", "nobody") == "There is no tenant nobody."


@pytest.mark.parametrize(
    "arguments", ["audit verify acme", "audit verify --tenant A!", "audit --since x", "audit --tenant acme verify"]
)
def test_wrong_use(shell: Shell, arguments: str) -> None:
    shell.misuse(*arguments.split())
