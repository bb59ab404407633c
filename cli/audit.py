"""`panelgate audit`: what the operators did, and whether that and the money are as they were recorded."""

import json
from collections.abc import Mapping
from typing import Any

import click

from chalicelib.aws.audit import findings
from cli.acts import Trace, acts
from cli.chain import digest, orphans
from cli.console import Console, Failure, Group, pass_console
from cli.options import SINCE, SLUG
from cli.text import Rows, cell

UNKNOWN_END = "no outcome"
"""What people read of an act that was recorded and of which nothing more is known."""


@click.group("audit", cls=Group, invoke_without_command=True)
@click.option("--tenant", type=SLUG, help="Only what was done about this tenant.")
@click.option("--since", type=SINCE, help="Only what was done since: 24h, 2027-01-15, 2027-01-15T08:00:00Z.")
@click.pass_context
@pass_console
def audit_command(console: Console, context: click.Context, tenant: str | None, since: str | None) -> None:
    """Say what the operators did, oldest first; and verify the records."""
    if context.invoked_subcommand is not None:
        if tenant or since:
            raise click.UsageError(f"Say it after `{context.invoked_subcommand}`.")
        return
    if tenant:
        console.registry.tenant(tenant)
    found = [act for act in acts(console.journal, since or "") if tenant in (None, act["tenant"])]
    rows: list[tuple[object, ...]] = [
        (
            act["record"],
            act["at"],
            act["act"],
            _spelled(act["arguments"]),
            act["who"]["arn"],
            act["from"]["host"],
            _outcome(act),
        )
        for act in found
    ]
    headings = ("record", "at", "act", "arguments", "who", "from", "outcome")
    console.emit({"acts": found}, str(Rows(headings, rows)))


def _spelled(arguments: Mapping[str, Any]) -> str:
    return " ".join(f"{name}={cell(value)}" for name, value in arguments.items()) or "-"


def _outcome(act: Mapping[str, Any]) -> str:
    if act["outcome"] is None:
        return UNKNOWN_END
    return f"{act['outcome']}: {act['reason']}" if act["reason"] else str(act["outcome"])


@audit_command.command(trace=Trace.NONE)
@click.option("--tenant", type=SLUG, help="Only this tenant's money; the journal is one for all.")
@pass_console
def verify(console: Console, tenant: str | None) -> None:
    """Verify the journal of the operators' acts, and recompute every balance; fail with the first bad record of each.

    The stage may be in use: what is being written is looked at again, and a record that never rests is named.
    """
    tenants = [console.registry.tenant(tenant)] if tenant else console.registry.tenants()
    walk = console.journal.verify()
    wrong: list[object] = [*walk.faults]  # the money is looked at all the same
    in_motion = []
    for finding in findings(console.parts.table, tenant):
        if not finding.in_motion:
            wrong.append(finding)
            break
        in_motion.append(f"{finding.pk} {finding.sk}")
    if wrong:
        raise Failure("\n".join(f"{cell(str(one))}." for one in wrong))
    verified = [one.id for one in tenants]
    shown = {
        "tenants": verified,
        "in_motion": in_motion,
        "journal": {
            "records": walk.end.number,
            "hash": walk.end.hash,
            "accepted": walk.accepted(),
            "orphaned": walk.orphaned,
        },
    }
    lines = [
        f"All records of {cell(verified)} are right.",
        f"All {walk.end.number} records of the journal are as they were written, up to {walk.end.hash}.",
        *(f"Accepted without an anchor: record {number}." for number in walk.accepted()),
        *(f"Accepted without a record: an anchor of record {number}." for number in walk.orphaned),
        *(f"Not seen at rest: {cell(key)}" for key in in_motion),
    ]
    console.emit(shown, "\n".join(lines))


@audit_command.command()
@click.argument("record", type=click.IntRange(min=0))
@pass_console
def accept(console: Console, record: int) -> None:
    """Answer for a record without an anchor: you know which run left it, or you have found out who wrote it.

    Or answer for anchors without a record, from this number on: the table was restored to an earlier time.
    """
    anchors = console.journal.walk().anchors
    stored = {one.number: one.hash for one in console.journal.records() if one.hash == digest(one.text)}
    lost = orphans(record, stored, anchors)
    if not lost and record not in stored:
        raise Failure(f"Record {record} is not there, or was edited: nobody can answer for that.")
    if not lost and record in anchors:
        raise Failure(f"Record {record} has an anchor: there is nothing to answer for.")
    console.note(accepted=record, orphans=lost)
    if lost:
        text = f"{len(lost)} anchors without a record, of record {record} and those that follow it, are accepted."
    else:
        text = f"Record {record} is accepted without an anchor."
    console.emit({"record": record, "accepted": True, "orphans": len(lost)}, text)


@audit_command.command(trace=Trace.NONE)
@pass_console
def export(console: Console) -> None:
    """Print the whole journal as JSON lines: each record's text, and its hash, which is the text's SHA-256."""
    lines = [{"number": one.number, "hash": one.hash, "text": one.text} for one in console.journal.records()]
    console.emit({"records": lines}, "\n".join(json.dumps(line, ensure_ascii=False) for line in lines))
