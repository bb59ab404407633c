"""`panelgate audit`: whether the records are true."""

import click

from chalicelib.aws.audit import findings
from cli.console import Console, Failure, Group, pass_console
from cli.options import SLUG, cell


@click.group("audit", cls=Group)
def audit_command() -> None:
    """Whether the records are true."""


@audit_command.command()
@click.option("--tenant", type=SLUG, help="Only this tenant's records.")
@pass_console
def verify(console: Console, tenant: str | None) -> None:
    """Recompute every balance and look for every record that it rests on; fail with the first that is wrong.

    The stage may be in use: what is being written is looked at again, and a record that never rests is named.
    """
    tenants = [console.registry.tenant(tenant)] if tenant else console.registry.tenants()
    in_motion = []
    for finding in findings(console.parts.table, tenant):
        if not finding.in_motion:
            raise Failure(f"{cell(str(finding))}.")
        in_motion.append(f"{finding.pk} {finding.sk}")
    verified = [one.id for one in tenants]
    lines = [f"All records of {cell(verified)} are right.", *(f"Not seen at rest: {cell(key)}" for key in in_motion)]
    console.emit({"tenants": verified, "in_motion": in_motion}, "\n".join(lines))
