import pytest

from cli.console import Console
from tests.cli.conftest import Shell, amount
from tests.cli.test_orders import buy


def test_a_new_tenant_has_nothing(shell: Shell, acme: str) -> None:
    assert shell.ok("wallet", "show", acme) == {"balance": 0, "held": 0, "currency": "USD"}


def test_credit_is_exact(shell: Shell, acme: str) -> None:
    credited = shell.ok("wallet", "credit", acme, "0.1", "--reference", "one")
    assert credited == {
        "tenant": acme,
        "reference": "one",
        "credited": amount("0.1"),
        "repeated": False,
        "balance": amount("0.1"),
        "held": 0,
        "currency": "USD",
    }
    shell.ok("wallet", "credit", acme, "0.200001", "--reference", "two")
    outcome = shell("wallet", "show", acme, "--json")
    assert outcome.out == '{"balance": 0.300001, "held": 0, "currency": "USD"}\n'


def test_the_same_credit_twice_is_once(shell: Shell, acme: str) -> None:
    shell.ok("wallet", "credit", acme, "100", "--reference", "invoice 7")
    again = shell.ok("wallet", "credit", acme, "100.00", "--reference", "invoice 7")
    assert (again["repeated"], again["balance"]) == (True, 100)
    assert "nothing was added now" in shell("wallet", "credit", acme, "100", "--reference", "invoice 7").out


def test_a_reference_stands_for_one_amount(shell: Shell, acme: str) -> None:
    shell.ok("wallet", "credit", acme, "100", "--reference", "invoice")
    error = shell.failure("wallet", "credit", acme, "101", "--reference", "invoice")
    assert error == "This reference was used before for another amount."
    assert shell.ok("wallet", "show", acme)["balance"] == 100


@pytest.mark.parametrize("figure", ["0", "-5", "1.0000001", "1e3", "NaN", "Infinity", "", "1,5", "9" * 14])
def test_amounts_that_are_none(shell: Shell, acme: str, figure: str) -> None:
    error = shell.misuse("wallet", "credit", "--reference", "r", "--", acme, figure)
    assert "at most 6 decimals" in error


@pytest.mark.parametrize("reference", ["", "x" * 256, "é", "a\nb"])
def test_references_that_are_none(shell: Shell, acme: str, reference: str) -> None:
    assert "255" in shell.misuse("wallet", "credit", acme, "5", "--reference", reference)


def test_a_reference_is_needed(shell: Shell, acme: str) -> None:
    assert "--reference" in shell.misuse("wallet", "credit", acme, "5")


@pytest.mark.parametrize("arguments", ["show nobody", "credit nobody 5 --reference r"])
def test_a_tenant_that_is_not_there(shell: Shell, arguments: str) -> None:
    assert shell.failure("wallet", *arguments.split()) == "There is no tenant nobody."


def test_the_ledger_has_every_movement_and_the_balance_after_it(shell: Shell, stage: Console, smosale: str) -> None:
    del smosale
    shell.ok("tenants", "create", "acme")
    shell.ok("wallet", "credit", "acme", "100", "--reference", "start")
    order = buy(stage, str(shell.ok("clients", "create", "acme")["key"]))
    ledger = shell.ok("wallet", "ledger", "acme")
    rows = [(row["kind"], row["of"], row["amount"], row["held"], row["balance"]) for row in ledger["entries"]]
    price = amount("0.9")
    assert rows == [
        ("credit", "start", 100, 0, 100),
        ("hold", str(order), -price, price, 100 - price),
        ("capture", str(order), 0, 0, 100 - price),
    ]
    assert "capture" in shell("wallet", "ledger", "acme").out
