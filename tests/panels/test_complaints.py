"""Error texts: every one of protocol.md 1.6, and what is none."""

from collections.abc import Mapping

import pytest

from chalicelib.actions import Reason
from chalicelib.panels import complaints

# protocol.md 1.6, row by row, and below it what else a table holds.
TEXTS: Mapping[Reason, tuple[str, ...]] = {
    Reason.BAD_KEY: (
        "Invalid API key",
        "Incorrect API key",
        "Invalid API Key",
        "invalid API key",
        "Invalid API key.",
        "Missing API key",
        "API key is required",
        "API is Disable for this user or User Not Found! Contact the Support",
    ),
    Reason.KEY_OR_REQUEST: ("Incorrect request or API key", "Invalid request or API key."),
    Reason.MALFORMED: (
        "Incorrect request",
        "Missing parameters",
        "Neither parameter is set",
        "Incorrect parameters",
    ),
    Reason.ACTION: ("Invalid action", "Incorrect action", "This action is Invalid"),
    Reason.SERVICE: (
        "Incorrect service ID",
        "error.incorrect_service_id",
        "neworder.error.incorrect_service_id",
        "neworder.error.service_not_found",
        "Service ID does not exists",
        "Disabled service ID",
        "Service temporarily disabled",
        # mysticsmm
        "Service not found or unauthorized",
        "SERVICE_NOT_FOUND",
    ),
    Reason.LINK: ("Incorrect link", "Bad link", "Bad Link", "neworder.error.link", "neworder.error.invalid_link"),
    Reason.DUPLICATE_LINK: (
        "You have active order with this link. Please wait until order being completed.",
        "neworder.error.link_duplicate",
    ),
    Reason.QUANTITY: (
        "Incorrect quantity",
        "neworder.error.invalid_quantity",
        "Quantity must be between 100 and 100000",
    ),
    Reason.QUANTITY_LOW: ("neworder.error.min_quantity", "Quantity less than minimal 100"),
    Reason.QUANTITY_HIGH: (
        "neworder.error.max_quantity",
        "Quantity more than maximum 10000",
        "Quantity less than maximum 10000",
    ),
    Reason.NO_FUNDS: (
        "Not enough funds on balance",
        "neworder.error.not_enough_funds",
        "Not enough funds",
        "Insufficient balance",
        "Insufficient balance in wallet.",
    ),
    Reason.ORDER: ("Incorrect order ID", "Order not found", "Invalid Order Id", "Order Not found"),
    Reason.REFILL: ("Refill not found", "Refill Request Not found", "Incorrect refill ID"),
    Reason.NOT_REFILLABLE: ("Order not eligible for refill.",),
    # No document shows one; a refused cancel must not be taken for an order that is not there.
    Reason.NOT_CANCELABLE: ("Order cannot be canceled", "Order cannot be cancelled"),
    Reason.THROTTLED: ("Too many requests", "Rate limit exceeded. Max 60 requests per minute."),
    # protocol.md 1.7
    Reason.UNAVAILABLE: ("IP not allowed",),
}


@pytest.mark.parametrize(("reason", "text"), [(reason, text) for reason, texts in TEXTS.items() for text in texts])
def test_known_texts(reason: Reason, text: str) -> None:
    for spelling in (text, f"  {text.upper()} "):
        known = complaints.meaning(spelling)
        assert known is not None
        assert known.reason is reason


def test_every_reason_has_a_text() -> None:
    assert set(TEXTS) == set(Reason)


@pytest.mark.parametrize(
    ("text", "meaning"),
    [
        ("Quantity less than minimal 100", (Reason.QUANTITY_LOW, 100)),
        ("quantity less than minimum 1,000.", (Reason.QUANTITY_LOW, 1000)),
        ("Quantity more than maximum 10,000", (Reason.QUANTITY_HIGH, 10_000)),
        ("Quantity less than maximum 5000", (Reason.QUANTITY_HIGH, 5000)),
        ("Quantity must be between 100 and 100000", (Reason.QUANTITY, None)),
        ("neworder.error.min_quantity", (Reason.QUANTITY_LOW, None)),
        ("Quantity more than maximum " + "9" * 200, (Reason.QUANTITY_HIGH, None)),
        ("Quantity more than maximum 1,00", (Reason.QUANTITY_HIGH, None)),
    ],
)
def test_a_quantitys_bound_is_read_from_its_sentence(text: str, meaning: tuple[Reason, int | None]) -> None:
    assert complaints.meaning(text) == meaning


@pytest.mark.parametrize(
    "text",
    [
        *(
            "",
            "Error",
            "neworder.error.too_many_orders",
            "Your order was placed. Not enough funds on balance for another",
        ),
        *("Not enough funds on balance to refund", "Something went wrong", "Quantity less than minimal", "Invalid"),
    ],
)
def test_a_part_of_a_text_proves_nothing(text: str) -> None:
    assert complaints.meaning(text) is None


@pytest.mark.parametrize(
    "document",
    [
        *(None, 5, True, [], {}, [{"service": 1}], {"order": 5}, {"error": None}, {"error": ""}, {"error": False}),
        *({"error": 0}, {"error": []}, {"errors": {}}, {"success": True}, {"success": "Refill request accepted."}),
        *({"status": "Fail", "charge": "0"}, {"status": "error", "remains": None}, {"status": "Completed"}),
    ],
    ids=str,
)
def test_what_does_not_complain(document: object) -> None:
    assert complaints.found(document) is None


def test_the_panels_own_text_is_kept_short_and_clean() -> None:
    complaint = complaints.found({"error": "Oh\x00\x1b[31m no\n" * 100})
    assert complaint is not None
    assert complaint.meaning is None
    assert complaint.text.startswith("Oh [31m no Oh")
    assert len(complaint.text) <= 300


def test_a_known_text_among_several_decides() -> None:
    complaint = complaints.found({"message": "The given data was invalid.", "errors": {"link": ["?", "Bad link"]}})
    assert complaint is not None
    assert complaint.meaning == (Reason.LINK, None)


def test_a_refills_failed_status_is_a_complaint_only_beside_a_message() -> None:
    assert complaints.found({"status": "Fail"}) is not None
    assert complaints.found({"refill": 3, "status": "Fail"}, of_refill=True) is None
    assert complaints.found({"status": "fail", "message": "Refill not found"}, of_refill=True) is not None
    assert complaints.found({"success": False, "status": "Fail"}, of_refill=True) is not None


@pytest.mark.parametrize(
    "value", [1, "1", "Completed", "Something went wrong", None, True, [], {}, {"status": "Fail", "charge": 1}]
)
def test_a_result_that_is_no_complaint(value: object) -> None:
    assert complaints.known(value) is None


@pytest.mark.parametrize("value", ["Incorrect order ID", {"error": "?"}, ["Order Not found"]], ids=str)
def test_a_complaint_in_a_results_place(value: object) -> None:
    assert complaints.known(value) is not None
