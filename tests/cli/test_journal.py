"""The journal's chain: nobody changes what has been recorded without `audit verify` naming the first bad record."""

import json
import threading
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from chalicelib.aws.table import Item
from cli.chain import MAX_ORPHANS, Head, Record, digest, orphans, sort_key
from cli.console import Aws, Console
from cli.journal import STREAM, Anchor, Journal
from tests.cli.conftest import AUDIT_LOG, Shell
from tests.cli.test_audit import spoil_wallet

RECORDS = 12


@pytest.fixture
def journal(shell: Shell, stage: Console) -> Journal:
    """Return a journal with six acts and their outcomes, whose verifier does not wait."""
    for name in ("acme", "beta", "gamma"):
        shell.ok("tenants", "create", name)
        shell.ok("wallet", "credit", name, "5", "--reference", "start")
    assert verified(shell) == RECORDS
    return impatient(stage)


def impatient(console: Console) -> Journal:
    table = console.journal.table
    clock = replace(table.clock, sleep=lambda _seconds: None)
    return replace(console.journal, table=replace(table, clock=clock))


def verified(shell: Shell) -> int:
    return int(shell.ok("audit", "verify")["journal"]["records"])


def stored(journal: Journal) -> list[Item]:
    return list(journal.table.query("AUDIT", "RECORD#"))


def fault(journal: Journal) -> str:
    """Return the first thing that is wrong."""
    return faults(journal)[0]


def faults(journal: Journal) -> list[str]:
    return [str(one) for one in journal.verify().faults]


def put(journal: Journal, *records: Record) -> None:
    journal.table.put_many(
        [{"pk": "AUDIT", "sk": sort_key(one.number), "text": one.text, "hash": one.hash} for one in records]
    )


def put_head(journal: Journal, head: Head) -> None:
    journal.table.put_many([{"pk": "AUDIT", "sk": "HEAD", "number": head.number, "hash": head.hash}])


def drop(journal: Journal, *numbers: int) -> None:
    journal.table.delete_many([("AUDIT", sort_key(number)) for number in numbers])


def chained(head: Head, count: int) -> list[Record]:
    """Return a chain that is right in itself."""
    made: list[Record] = []
    for n in range(count):
        made.append(Record.after(made[-1].head if made else head, {"kind": "act", "act": f"something else {n}"}))
    return made


def tail(journal: Journal, number: int) -> list[Record]:
    """Return the records from a number on."""
    return [one for one in journal.records() if one.number >= number]


# -- tampering: what somebody does, and the record that is named -----------------------------------------------------

Tamper = Callable[[Journal], None]
TAMPERS: dict[str, tuple[Tamper, int, str]] = {}


def tamper(number: int, sentence: str) -> Callable[[Tamper], Tamper]:
    def register(act: Tamper) -> Tamper:
        TAMPERS[act.__name__] = act, number, sentence
        return act

    return register


@tamper(5, "edited")
def a_text_is_edited(journal: Journal) -> None:
    item = stored(journal)[4]
    journal.table.put_many([{**item, "text": item["text"].replace("beta", "zeta")}])


@tamper(5, "edited")
def a_hash_is_edited(journal: Journal) -> None:
    item = stored(journal)[4]
    journal.table.put_many([{**item, "hash": "0" * 64}])


@tamper(5, "anchored")
def a_record_is_edited_with_its_hash(journal: Journal) -> None:
    before = tail(journal, 4)[0].head
    put(journal, Record.after(before, {"kind": "act", "act": "something else"}))


@tamper(5, "is missing: the next one is RECORD#000000000006")
def a_record_is_deleted(journal: Journal) -> None:
    drop(journal, 5)


@tamper(1, "is missing: the next one is RECORD#000000000002")
def the_first_record_is_deleted(journal: Journal) -> None:
    drop(journal, 1)


@tamper(4, "is missing: the next one is RECORD#000000000007")
def some_records_are_deleted(journal: Journal) -> None:
    drop(journal, 4, 5, 6)


@tamper(3, "holds record 5: they were reordered")
def two_records_change_places(journal: Journal) -> None:
    third, fifth = tail(journal, 3)[0], tail(journal, 5)[0]
    put(journal, replace(third, number=5), replace(fifth, number=3))


@tamper(3, "rewritten from here on, or forked")
def two_records_change_places_with_their_numbers_and_hashes(journal: Journal) -> None:
    third, fourth = (_said(one) for one in tail(journal, 3)[:2])
    first = Record.after(tail(journal, 2)[0].head, fourth)
    put(journal, first, Record.after(first.head, third))


def _said(record: Record) -> dict[str, Any]:
    return {name: value for name, value in record.content.items() if name not in ("record", "previous")}


@tamper(5, "does not follow")
def a_record_follows_another_one(journal: Journal) -> None:
    put(journal, Record.after(Head(4, "0" * 64), {"kind": "act"}))


@tamper(11, "is missing: records up to 12 were anchored")
def the_end_is_cut_off(journal: Journal) -> None:
    drop(journal, 11, 12)
    put_head(journal, tail(journal, 10)[0].head)


@tamper(12, "is missing")
def the_last_record_is_deleted_and_the_head_is_not(journal: Journal) -> None:
    drop(journal, 12)


@tamper(1, "is missing: records up to 12 were anchored")
def everything_is_deleted(journal: Journal) -> None:
    drop(journal, *range(1, RECORDS + 1))
    journal.table.delete_many([("AUDIT", "HEAD")])


@tamper(7, "rewritten from here on, or forked")
def the_end_is_written_anew(journal: Journal) -> None:
    forged = chained(tail(journal, 6)[0].head, 6)
    put(journal, *forged)
    put_head(journal, forged[-1].head)


@tamper(1, "rewritten from here on, or forked")
def the_whole_chain_is_written_anew(journal: Journal) -> None:
    forged = chained(Head.of_empty("local"), RECORDS)
    put(journal, *forged)
    put_head(journal, forged[-1].head)


@tamper(1, "rewritten from here on, or forked")
def a_longer_chain_takes_its_place(journal: Journal) -> None:
    forged = chained(Head.of_empty("local"), 20)
    put(journal, *forged)
    put_head(journal, forged[-1].head)
    anchor(journal, *forged)  # a log group takes new entries, and gives none up


@tamper(8, "forked")
def two_records_were_anchored_as_one(journal: Journal) -> None:
    anchor(journal, replace(tail(journal, 8)[0], hash="f" * 64))


@tamper(13, "no anchor")
def a_record_is_added(journal: Journal) -> None:
    forged = chained(journal.head(), 1)
    put(journal, *forged)
    put_head(journal, forged[-1].head)


@tamper(1, "does not follow")
def another_stages_journal_takes_its_place(journal: Journal) -> None:
    forget_anchors(journal)
    forged = chained(Head.of_empty("production"), 3)
    drop(journal, *range(1, RECORDS + 1))
    put(journal, *forged)
    put_head(journal, forged[-1].head)
    anchor(journal, *forged)


@tamper(1, "no anchor")
def the_anchors_are_gone(journal: Journal) -> None:
    forget_anchors(journal)


def forget_anchors(journal: Journal) -> None:
    journal.anchor.client.delete_log_stream(logGroupName=AUDIT_LOG, logStreamName=STREAM)


def anchor(journal: Journal, *records: Record) -> None:
    journal.anchor.prepare()
    for record in records:
        journal.anchor.write(record, journal.table.clock.now())


@pytest.mark.parametrize("name", TAMPERS)
def test_tampering_is_found_and_the_first_bad_record_named(journal: Journal, name: str) -> None:
    act, number, sentence = TAMPERS[name]
    act(journal)
    told = fault(journal)
    assert told.startswith(f"AUDIT {sort_key(number)}: it")
    assert sentence in told


def test_the_head_is_a_record_too(journal: Journal) -> None:
    put_head(journal, tail(journal, 4)[0].head)
    assert fault(journal) == "AUDIT HEAD: it does not name the last record, RECORD#000000000012"
    put_head(journal, Head(RECORDS, "0" * 64))
    assert fault(journal) == "AUDIT RECORD#000000000012: it is not the record that the journal's head names"
    put_head(journal, Head(RECORDS + 2, "0" * 64))
    assert fault(journal) == "AUDIT RECORD#000000000013: it is missing: the journal's head names record 14"


@pytest.mark.parametrize("content", [{}, {"number": 12}, {"hash": "0"}, {"text": 7}, {"number": "x", "hash": 5}])
def test_nonsense_is_named_too(shell: Shell, journal: Journal, content: dict[str, Any]) -> None:
    journal.table.put_many([{"pk": "AUDIT", "sk": sort_key(3), **content}])
    assert fault(journal) == "AUDIT RECORD#000000000003: it was edited: its text does not have its hash"
    assert shell.failure("audit").startswith("Record 3 of the journal cannot be read")
    assert len(shell.ok("audit", "export")["records"]) == RECORDS
    put_head(journal, journal.head())
    journal.table.put_many([{"pk": "AUDIT", "sk": "HEAD", **content}])
    assert fault(journal).startswith("AUDIT ")


@pytest.mark.parametrize("text", ["", "null", "[]", "7", '{"record": 3}', '{"record": 3, "previous": 4}', "[" * 9999])
def test_a_text_that_is_none_of_ours_is_named(journal: Journal, text: str) -> None:
    put(journal, Record(3, text, digest(text)))
    assert fault(journal).startswith("AUDIT RECORD#000000000003: it ")


RIGHT = {"kind": "act", "at": "2026", "act": "x", "tenant": None, "arguments": {}, "who": {"arn": "a"}}
ODD: tuple[dict[str, Any], ...] = (
    {"kind": "act"},
    {"kind": "else"},
    {**RIGHT, "from": {}},
    {**RIGHT, "from": {"host": 7}},
    *({**RIGHT, "from": {"host": "h"}, name: 7} for name in RIGHT),
    {"kind": "outcome"},
    {"kind": "outcome", "of": 1, "outcome": "done"},
    {"kind": "outcome", "of": "1", "outcome": "done", "at": "2026"},
    {"kind": "outcome", "of": 1, "outcome": 7, "at": "2026"},
)


@pytest.mark.parametrize("content", ODD)
def test_a_record_that_says_other_things_than_ours(shell: Shell, journal: Journal, content: dict[str, Any]) -> None:
    journal.append(content)
    for arguments in ((), ("--since", "1h")):
        assert shell.failure("audit", *arguments).startswith("Record 13 of the journal cannot be read")


def test_two_equal_acts_at_once_are_two_records(journal: Journal) -> None:
    """Whoever loses the race for the number must not take the other's record for its own."""
    content, head = {"kind": "act", "act": "x"}, journal.head()
    first, second = (Record.after(head, content) for _ in range(2))
    assert journal._is_stored(first, head)  # noqa: SLF001 - what a try does
    assert not journal._is_stored(second, head)  # noqa: SLF001 - likewise


def test_what_is_no_record_is_named(journal: Journal) -> None:
    journal.table.put_many([{"pk": "AUDIT", "sk": "RECORD#000000000003b", "text": "{}", "hash": ""}])
    assert fault(journal) == "AUDIT RECORD#000000000003b: it is no record of the journal"


def log(journal: Journal, *messages: str) -> None:
    journal.anchor.client.put_log_events(
        logGroupName=AUDIT_LOG,
        logStreamName=STREAM,
        logEvents=[{"timestamp": journal.table.clock.now() // 1000, "message": one} for one in messages],
    )


@pytest.mark.parametrize("message", ["hello", "7", '{"record": 0, "hash": "x"}', '{"record": -3, "hash": "x"}'])
def test_an_entry_that_is_no_anchor_is_told_of(journal: Journal, message: str) -> None:
    log(journal, message)
    assert "an entry that is no anchor" in fault(journal)


def test_verify_exits_with_1_and_the_sentence(shell: Shell, journal: Journal) -> None:
    a_text_is_edited(journal)
    sentence = "AUDIT RECORD#000000000005: it was edited: its text does not have its hash."
    assert shell.failure("audit", "verify") == sentence
    assert shell("audit", "verify").code == 1
    assert shell.failure("audit", "verify", "--tenant", "acme") == sentence


def test_a_bad_journal_does_not_hide_bad_money(shell: Shell, journal: Journal, stage: Console) -> None:
    a_text_is_edited(journal)
    spoil_wallet(stage, "acme")
    first, second = shell.failure("audit", "verify").splitlines()
    assert first.startswith("AUDIT RECORD#000000000005: ")
    assert second.startswith("T#acme WALLET: ")


def test_a_damaged_journal_takes_no_acts(shell: Shell, journal: Journal) -> None:
    journal.table.delete_many([("AUDIT", "HEAD")])
    before = list(journal.table.query("TENANTS"))
    assert "the journal is damaged" in shell.failure("tenants", "create", "delta").lower()
    assert list(journal.table.query("TENANTS")) == before


# -- acts of several operators at once ---------------------------------------------------------------------------------


def test_acts_of_many_at_once_are_one_chain(stage: Console, aws: Aws) -> None:
    operators, each = 8, 6
    failures: list[BaseException] = []

    def operate(name: int) -> None:
        journal = replace(Console(stage.stage).journal, anchor=replace(stage.journal.anchor, client=_logs(aws)))
        try:
            for n in range(each):
                journal.append({"kind": "act", "operator": name, "n": n})
        except BaseException as error:  # noqa: BLE001 - told by the test
            failures.append(error)

    threads = [threading.Thread(target=operate, args=(name,)) for name in range(operators)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    walk = stage.journal.verify()
    assert (walk.faults, walk.unanchored, walk.end.number) == ([], [], operators * each)
    contents = [one.content for one in stage.journal.records()]
    assert sorted((one["operator"], one["n"]) for one in contents) == [
        (name, n) for name in range(operators) for n in range(each)
    ]
    for name in range(operators):
        assert [one["n"] for one in contents if one["operator"] == name] == list(range(each))


def _logs(aws: Aws) -> Any:
    return aws.session.client("logs", endpoint_url=aws.endpoint)


def test_verifying_while_others_act(stage: Console) -> None:
    done = threading.Event()

    def operate() -> None:
        while not done.is_set():
            stage.journal.append({"kind": "act", "act": "x"})

    stage.journal.append({"kind": "act", "act": "x"})
    thread = threading.Thread(target=operate)
    thread.start()
    try:
        for _ in range(6):
            assert Console(stage.stage).journal.verify().faults == []
    finally:
        done.set()
        thread.join()


# -- crashes -----------------------------------------------------------------------------------------------------------


def test_a_crash_between_the_record_and_its_anchor(shell: Shell, journal: Journal, stage: Console) -> None:
    """Nothing was done then. Verifying says so until the operator has answered for the record."""
    journal._append({"kind": "act", "act": "tenants create"})  # noqa: SLF001 - half of what a run does
    assert "no anchor: a run ended before it had written one, and did nothing, or" in fault(journal)
    shell.ok("tenants", "suspend", "acme")  # later records do not hide it
    assert fault(journal).startswith("AUDIT RECORD#000000000013: it has no anchor")
    assert "there is nothing to answer for" in shell.failure("audit", "accept", "12")
    assert shell.failure("audit", "accept", "99").startswith("Record 99 is not there")
    shell.ok("audit", "accept", "13")
    assert shell.ok("audit", "verify")["journal"]["accepted"] == [13]
    assert stage.journal.head().number == 21


def test_a_crash_between_an_outcome_and_its_anchor(journal: Journal) -> None:
    """The record must not be called one of a run that did nothing."""
    journal._append({"kind": "outcome", "of": 11, "outcome": "done"})  # noqa: SLF001 - likewise
    assert "and had ended as the record says, or" in fault(journal)


def test_nobody_answers_for_a_record_that_is_yet_to_come(shell: Shell, journal: Journal) -> None:
    shell.failure("audit", "accept", "15")
    journal._append({"kind": "act", "act": "tenants create"})  # noqa: SLF001 - likewise
    assert fault(journal).startswith("AUDIT RECORD#000000000015: it has no anchor")


def test_an_answer_that_was_written_ahead_is_none(journal: Journal) -> None:
    journal.append({"kind": "outcome", "facts": {"accepted": 14, "orphans": []}})
    journal._append({"kind": "act", "act": "tenants create"})  # noqa: SLF001 - half of what a run does
    assert fault(journal).startswith("AUDIT RECORD#000000000014: it has no anchor")


def accepted(shell: Shell) -> tuple[list[int], list[int]]:
    """Return for what somebody answers, in a journal that is right: records, and records whose anchors are orphans."""
    told = shell.ok("audit", "verify")["journal"]
    return told["accepted"], told["orphaned"]


def edit(journal: Journal, number: int) -> Callable[[], None]:
    """Edit a record, and return how to undo it."""
    item = stored(journal)[number - 1]
    journal.table.put_many([{**item, "text": item["text"].replace("local", "lokal") + " "}])
    return lambda: journal.table.put_many([item])


def test_a_record_that_is_answered_for_hides_no_other(shell: Shell, journal: Journal) -> None:
    """Whatever is edited before or behind the answer is what is named, and not the record that it is for."""
    journal._append({"kind": "act", "act": "tenants create"})  # noqa: SLF001 - half of what a run does
    shell.ok("tenants", "suspend", "acme")
    shell.ok("audit", "accept", "13")
    shell.ok("tenants", "resume", "acme")
    for number in (5, 13, 14, 15, 16, 18, 19):
        undo = edit(journal, number)
        assert [one.partition(":")[0] for one in faults(journal)] == [f"AUDIT {sort_key(number)}"]
        undo()
    edit(journal, 17)  # the answer itself
    told = faults(journal)
    assert [one.partition(":")[0] for one in told] == ["AUDIT RECORD#000000000013", "AUDIT RECORD#000000000017"]
    assert "no anchor" in told[0]
    assert "edited" in told[1]


ANSWERS = ({"accepted": 13, "orphans": []}, {"accepted": "13", "orphans": []}, {"accepted": 13, "orphans": "abc"})
NONSENSE: tuple[object, ...] = (
    {},
    {"accepted": 13},
    {"accepted": None, "orphans": []},
    {"accepted": 13, "orphans": 7},
    [],
    7,
    None,
)


@pytest.mark.parametrize("facts", [*ANSWERS, *NONSENSE])
def test_an_answer_is_believed_by_its_own_anchor(journal: Journal, facts: object) -> None:
    journal._append({"kind": "act", "act": "tenants create"})  # noqa: SLF001 - half of what a run does
    answer = journal._append({"kind": "outcome", "of": 13, "facts": facts})  # noqa: SLF001 - likewise
    assert fault(journal).startswith("AUDIT RECORD#000000000013: it has no anchor")
    anchor(journal, answer)
    assert faults(journal) == [] if facts in ANSWERS else fault(journal).startswith("AUDIT RECORD#000000000013: ")


def test_an_act_of_accepting_alone_is_no_answer(journal: Journal) -> None:
    """It may have been refused; and somebody may write and anchor one that lacks its argument."""
    journal._append({"kind": "act", "act": "tenants create"})  # noqa: SLF001 - half of what a run does
    journal.append({"kind": "act", "act": "audit accept"})
    journal.append({"kind": "act", "act": "audit accept", "arguments": {"record": 13}})
    assert fault(journal).startswith("AUDIT RECORD#000000000013: it has no anchor")


# -- anchors without a record ------------------------------------------------------------------------------------------


def restore(journal: Journal, number: int) -> None:
    """Take the table back to when it had so many records."""
    drop(journal, *(one.number for one in tail(journal, number + 1)))
    put_head(journal, tail(journal, number)[0].head)


def test_a_table_that_was_restored(shell: Shell, journal: Journal) -> None:
    restore(journal, 8)
    assert "it is missing: records up to 12 were anchored" in fault(journal)
    assert "`panelgate audit accept 9` answers for it" in fault(journal)
    shell.ok("tenants", "suspend", "acme")  # records 9 and 10 again
    assert "AUDIT RECORD#000000000009: it is not the record that was anchored" in fault(journal)
    assert shell.ok("audit", "accept", "9") == {"record": 9, "accepted": True, "orphans": 4}
    assert accepted(shell) == ([], [9, 10, 11, 12])
    assert "nothing to answer for" in shell.failure("audit", "accept", "9")
    assert "Accepted without a record: an anchor of record 10." in shell("audit", "verify").out


def test_a_table_that_was_restored_is_answered_for_at_once(shell: Shell, journal: Journal) -> None:
    """The act of answering becomes one of the lost numbers itself."""
    restore(journal, 8)
    shell.ok("audit", "accept", "9")
    shell.ok("tenants", "suspend", "acme")
    shell.ok("tenants", "resume", "acme")
    assert accepted(shell) == ([], [9, 10, 11, 12])


@pytest.mark.parametrize("number", [3, 9, 10, 11, 12, 13, 14])
def test_what_is_done_to_a_restored_journal_is_found(shell: Shell, journal: Journal, number: int) -> None:
    """Without the answer, which is record 10, the first bad record is 9 again."""
    named = 9 if number == 10 else number
    restore(journal, 8)
    shell.ok("audit", "accept", "9")
    shell.ok("tenants", "suspend", "acme")
    shell.ok("tenants", "resume", "acme")
    kept = tail(journal, 1)
    forged = chained(kept[number - 2].head, len(kept) - number + 1)
    put(journal, *forged)
    put_head(journal, forged[-1].head)
    anchor(journal, *forged)
    assert fault(journal).startswith(f"AUDIT {sort_key(named)}: it is not the record that was anchored")


@pytest.mark.parametrize("number", [9, 11, 12, 13, 14])
def test_the_end_of_a_restored_journal_is_cut_off(shell: Shell, journal: Journal, number: int) -> None:
    restore(journal, 8)
    shell.ok("audit", "accept", "9")
    shell.ok("tenants", "suspend", "acme")
    shell.ok("tenants", "resume", "acme")
    restore(journal, number - 1)
    assert fault(journal).startswith(f"AUDIT {sort_key(number)}: it is missing")


def test_an_answer_whose_anchor_is_shown_late(journal: Journal) -> None:
    restore(journal, 8)
    lost = orphans(9, {one.number: one.hash for one in journal.records()}, journal.anchors())
    answer = journal._append({"kind": "outcome", "facts": {"accepted": 9, "orphans": lost}})  # noqa: SLF001 - as above
    clock = replace(journal.table.clock, sleep=lambda _seconds: anchor(journal, answer))
    assert faults(replace(journal, table=replace(journal.table, clock=clock))) == []


def test_an_answer_that_never_got_its_anchor_is_not_waited_for_once_it_is_answered_for(
    shell: Shell, journal: Journal
) -> None:
    answer = journal._append({"kind": "outcome", "facts": {"accepted": 3, "orphans": []}})  # noqa: SLF001 - as above
    shell.ok("audit", "accept", f"{answer.number}")
    waits: list[float] = []
    clock = replace(journal.table.clock, sleep=waits.append)
    assert faults(replace(journal, table=replace(journal.table, clock=clock))) == []
    assert waits == []


def test_more_is_lost_than_one_act_can_answer_for(shell: Shell, journal: Journal) -> None:
    lost = chained(journal.head(), MAX_ORPHANS + 5)
    log(journal, *(json.dumps({"record": one.number, "hash": one.hash}) for one in lost))
    assert shell.ok("audit", "accept", "13")["orphans"] == MAX_ORPHANS
    assert fault(journal).startswith(
        f"AUDIT {sort_key(15)}: it is missing: records up to {12 + len(lost)} were anchored"
    )
    assert shell.ok("audit", "accept", f"{13 + MAX_ORPHANS}")["orphans"] == 5
    assert accepted(shell) == ([], [one.number for one in lost])


def test_a_false_anchor_hides_nothing_once_it_is_answered_for(shell: Shell, journal: Journal) -> None:
    """Whoever may write the log group can put one there; nobody can take it away."""
    anchor(journal, replace(tail(journal, 2)[0], hash="f" * 64))
    assert "AUDIT RECORD#000000000002: it is not the record that was anchored" in fault(journal)
    shell.ok("audit", "accept", "2")
    assert accepted(shell) == ([], [2])
    a_record_is_edited_with_its_hash(journal)
    assert fault(journal).startswith("AUDIT RECORD#000000000005: ")


def test_an_entry_that_is_no_anchor_is_answered_for(shell: Shell, journal: Journal) -> None:
    log(journal, "hello")
    assert "`panelgate audit accept 0` answers for it" in fault(journal)
    assert shell.ok("audit", "accept", "0")["orphans"] == 1
    assert accepted(shell) == ([], [0])
    log(journal, "another")
    assert "an entry that is no anchor" in fault(journal)


@pytest.mark.parametrize("name", ["a_text_is_edited", "a_hash_is_edited", "a_record_is_deleted"])
def test_nobody_answers_for_what_was_done_to_a_record(shell: Shell, journal: Journal, name: str) -> None:
    TAMPERS[name][0](journal)
    before = fault(journal)
    assert shell.failure("audit", "accept", "5") == "Record 5 is not there, or was edited: nobody can answer for that."
    assert fault(journal) == before


def test_a_lost_reply_records_once(journal: Journal) -> None:
    """The transaction is asked for again under a new token, as after AWS has forgotten the old one."""
    head = journal.head()
    record = Record.after(head, {"kind": "act"})
    assert journal._is_stored(record, head)  # noqa: SLF001 - what a try does
    assert journal._is_stored(record, head)  # noqa: SLF001 - likewise
    assert not journal._is_stored(Record.after(head, {"kind": "other"}), head)  # noqa: SLF001 - likewise
    assert journal.head() == record.head


def test_nothing_is_written_behind_a_record_that_was_taken_away(journal: Journal) -> None:
    """An operator has read the head, and somebody cuts the journal's end off."""
    head = journal.head()
    the_end_is_cut_off(journal)
    assert not journal._is_stored(Record.after(head, {"kind": "act"}), head)  # noqa: SLF001 - what a try does
    assert len(stored(journal)) == 10


# -- size --------------------------------------------------------------------------------------------------------------


def test_more_than_dynamodb_and_cloudwatch_give_at_once(stage: Console, aws: Aws) -> None:
    """A query's page ends after 1 MB, an answer with log entries where we say."""
    journal = replace(stage.journal, anchor=Anchor(_logs(aws), AUDIT_LOG, page=7))
    records: list[Record] = []
    for n in range(60):
        head = records[-1].head if records else Head.of_empty(stage.stage)
        records.append(Record.after(head, {"kind": "act", "act": f"{n}", "arguments": {"x": "y" * 40_000}}))
    put(journal, *records)
    put_head(journal, records[-1].head)
    anchor(journal, *records)
    walk = journal.verify()
    assert (walk.faults, walk.end) == ([], records[-1].head)
    assert sum(len(one.text) for one in journal.records()) > 2_000_000
    drop(journal, 50)
    assert fault(journal) == "AUDIT RECORD#000000000050: it is missing: the next one is RECORD#000000000051"
