"""What every command shares: the two global options, output, failures, secrets, and the way to AWS.

A command module declares a group and its commands::

    @click.group("tenants", cls=Group)
    def tenants_command() -> None:
        \"\"\"Resellers and applications that this gateway serves.\"\"\"

    @tenants_command.command(trace=Trace.NONE)
    @click.argument("tenant")
    @pass_console
    def show(console: Console, tenant: str) -> None:
        \"\"\"Print one tenant.\"\"\"
        found = console.registry.tenant(tenant)
        console.emit({"tenant": found.id, "active": found.active}, f"{found.id} is active: {found.active}")

and `cli.main` names the module. `--stage` and `--json` then work before and after the command. A command that does not
say `trace=Trace.NONE` is an act of the operator: it is recorded before its function is called (`cli.acts`).
"""

import functools
import io
import json
import os
import re
import sys
import traceback
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import boto3
import botocore.session
import click
import simplejson
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from chalicelib.errors import PanelgateError, StoreBusy
from chalicelib.redaction import learn, redact
from chalicelib.settings import LOCAL_STAGE, Settings
from cli.acts import TYPED, Act, Trace, watched
from cli.journal import Anchor, Journal

if TYPE_CHECKING:
    from chalicelib.aws.clients import Clients
    from chalicelib.aws.registry import Registry
    from chalicelib.wiring import Parts

LOCAL_REGION = "us-east-1"
DEFAULT_STAGE = "dev"


class Failure(click.ClickException):
    """A command could not do what it was asked to: the message says why, the exit code is 1."""


@dataclass(frozen=True)
class Aws:
    """One AWS account and region, real or emulated; `endpoint` is None for the real one."""

    session: boto3.Session
    endpoint: str | None = None

    @classmethod
    def real(cls, endpoint: str | None = None) -> "Aws":
        """Return what the ordinary configuration (environment, profiles, roles) says."""
        return cls(boto3.Session(), endpoint)

    @classmethod
    def emulated(cls, endpoint: str) -> "Aws":
        """Return the emulated AWS at an address of this machine."""
        core = botocore.session.get_session()
        core.set_default_client_config(Config(proxies={}))  # a proxy of the environment cannot reach loopback
        session = boto3.Session(
            aws_access_key_id="test",
            aws_secret_access_key="test",  # noqa: S106 - the emulator's, and no secret
            region_name=LOCAL_REGION,
            botocore_session=core,
        )
        return cls(session, endpoint)


@dataclass
class Console:
    """The operator's side of one run of the command."""

    stage: str = field(default_factory=lambda: os.environ.get("PANELGATE_STAGE") or DEFAULT_STAGE)
    as_json: bool = False
    act: Act | None = None
    """What this run does, if it changes something."""

    @functools.cached_property
    def aws(self) -> Aws:
        """The AWS account of the chosen stage."""
        if self.stage != LOCAL_STAGE:
            aws = Aws.real()
            self._check_configuration(aws.session)
            return aws
        from cli.system import LocalSystem  # noqa: PLC0415 - the system itself uses this module

        facts = LocalSystem().status()
        if facts is None:
            raise Failure("The local system is not running. Start it with `panelgate local up`.")
        return Aws.emulated(facts.aws_endpoint)

    def _check_configuration(self, session: boto3.Session) -> None:
        """Say at once what AWS would need; a newcomer may have meant the local system."""
        missing = {"region": session.region_name is None, "credentials": session.get_credentials() is None}
        named = [name for name, is_missing in missing.items() if is_missing]
        if named:
            raise Failure(
                f"The stage {self.stage} is in AWS, and no {' and no '.join(named)} can be found: configure them as for"
                f" the AWS CLI, or say --stage {LOCAL_STAGE} for the system on this machine."
            )

    @functools.cached_property
    def parts(self) -> "Parts":
        """The gateway of the chosen stage, wired as in a Lambda."""
        from chalicelib import wiring  # noqa: PLC0415 - slow to import, and not every command needs the gateway

        return wiring.build(Settings(self.stage), session=self.aws.session, endpoint=self.aws.endpoint)

    @functools.cached_property
    def registry(self) -> "Registry":
        """The providers and tenants of the chosen stage."""
        from chalicelib.aws.registry import Registry  # noqa: PLC0415 - likewise

        return Registry(self.parts.table)

    @functools.cached_property
    def clients(self) -> "Clients":
        """The clients of the chosen stage's tenants."""
        from chalicelib.aws.clients import Clients  # noqa: PLC0415 - likewise

        return Clients(self.parts.table)

    @functools.cached_property
    def journal(self) -> Journal:
        """The record of the operator's acts on the chosen stage."""
        logs = self.aws.session.client("logs", endpoint_url=self.aws.endpoint)
        return Journal(self.parts.table, Anchor(logs, self.parts.settings.audit_log), self.stage)

    def begin_if_possible(self) -> bool:
        """Record that this act is about to be done, unless the stage has no journal yet; return whether it has."""
        return self.act is None or self.act.begin_if_possible(self)

    def end_act(self) -> None:
        """Record now that this act is done, where its command goes on without changing anything."""
        if self.act is not None:
            self.act.end(self, None)

    def note(self, **facts: object) -> None:
        """Add facts to the record of what became of this act; never a secret."""
        if self.act is not None:
            self.act.facts |= facts

    def emit(self, document: Mapping[str, Any], text: str) -> None:
        """Print the result, once: the document with `--json`, the text without."""
        click.echo(simplejson.dumps(document, use_decimal=True) if self.as_json else text)

    def progress(self, message: str) -> None:
        """Tell what is being done, on standard error."""
        click.echo(message, err=True)

    def confirm(self, question: str) -> None:
        """Ask a person who sits there; nobody else may do it without `--yes`.

        Raises:
            UsageError: nobody sits there.
            Abort: the answer is no.
        """
        if not sys.stdin.isatty():
            raise click.UsageError("Add --yes to do this without being asked.")
        click.confirm(question, abort=True, err=True)

    def secret(self, prompt: str) -> str:
        """Read a secret from standard input, or from a hidden prompt when a person sits there."""
        value = click.prompt(prompt, hide_input=True, err=True) if sys.stdin.isatty() else sys.stdin.readline()
        secret = str(value).strip()
        if not secret:
            raise Failure(f"{prompt}: nothing was given on standard input.")
        learn(secret)
        return secret


# What is as long as a key; a UUID is several words.
_LONG_WORD = re.compile(r"[A-Za-z0-9]{24,}")
# Names and references of the operator's own may be as long, and the journal is asked by them; no key belongs there.
_OF_TENANTS = frozenset({"tenants", "clients", "wallet", "orders"})
# As `infra/data.yaml` wants it: table, secrets and stacks are named after it.
_STAGE = re.compile(r"[a-z][a-z0-9-]{0,20}", re.ASCII)
_HINTS = {"ResourceNotFoundException": ". Is this stage deployed? `panelgate deploy` does it."}

pass_console = click.make_pass_decorator(Console, ensure=True)


def _set_stage(context: click.Context, _parameter: click.Parameter, value: str | None) -> None:
    if value is not None:
        if not _STAGE.fullmatch(value):
            raise click.BadParameter("use a lower-case letter and then up to 20 lower-case letters, digits and hyphens")
        context.ensure_object(Console).stage = value


def _set_json(context: click.Context, _parameter: click.Parameter, value: bool) -> None:  # noqa: FBT001 - click's form
    if value:
        context.ensure_object(Console).as_json = True


def _global_options() -> list[click.Parameter]:
    return [
        click.Option(
            ["--stage"],
            metavar="STAGE",
            expose_value=False,
            callback=_set_stage,
            help=f"The deployment to work on (PANELGATE_STAGE; {DEFAULT_STAGE}).",
        ),
        click.Option(["--json"], is_flag=True, expose_value=False, callback=_set_json, help="Print one JSON document."),
    ]


class Command(click.Command):
    """A command that takes the global options, too, and is recorded before it is done."""

    def __init__(self, *args: Any, trace: Trace = Trace.ACT, **kwargs: Any) -> None:  # noqa: ANN401 - click's own
        super().__init__(*args, **kwargs)
        self.trace = trace

    def invoke(self, ctx: click.Context) -> Any:  # noqa: ANN401 - click's own
        """Record the act, then do it, then record what became of it."""
        if self.trace is Trace.NONE:
            return super().invoke(ctx)
        console = ctx.ensure_object(Console)
        console.act = Act.of(ctx)
        if self.trace is Trace.ACT:
            _begin(console, console.act)
        with watched(console, console.act):
            return super().invoke(ctx)

    def get_params(self, ctx: click.Context) -> list[click.Parameter]:
        """Return its own options, and the global ones."""
        return [*super().get_params(ctx), *_global_options()]

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Parse the arguments. Those that are too many are not repeated: a secret may be among them."""
        try:
            "".join(args).encode()
        except UnicodeEncodeError:
            ctx.fail("The arguments must be UTF-8.")
        ctx.meta[TYPED] = self.make_parser(ctx).parse_args(list(args))[0]
        may_have_more, ctx.allow_extra_args = ctx.allow_extra_args, True
        rest = super().parse_args(ctx, args)
        if rest and not may_have_more:
            ctx.fail("These are too many arguments. (Keys are read from standard input.)")
        return rest


def _begin(console: Console, act: Act) -> None:
    try:
        act.begin(console)
    except (PanelgateError, ClientError, BotoCoreError) as error:
        raise Failure(f"Nothing was done, for it could not be recorded. {_reason(error)}") from None


class Group(Command, click.Group):
    """A group of such commands; it does nothing itself."""

    command_class = Command
    group_class = type

    def __init__(self, *args: Any, **kwargs: Any) -> None:  # noqa: ANN401 - click's own
        super().__init__(*args, trace=Trace.NONE, **kwargs)


def _possible_keys(arguments: Sequence[str]) -> Iterator[str]:
    """Yield the words of a command line that may be a provider's key."""
    if _OF_TENANTS.intersection(arguments):
        return
    for before, argument in pairwise(("", *arguments)):
        if "--tenant" not in (before, argument.partition("=")[0]):
            yield from (word for word in _LONG_WORD.findall(argument) if not word.isalpha() and not word.isdecimal())


def run(command: click.Command, arguments: Sequence[str]) -> int:
    """Run a command line and return its exit code: 0 done, 1 failed, 2 wrong use.

    What may be a key that was typed where something else belongs is told to the guard, before anything repeats it.
    """
    for word in _possible_keys(arguments):
        learn(word)
    try:
        return int(command.main(args=list(arguments), prog_name="panelgate", standalone_mode=False) or 0)
    except click.UsageError as error:
        return _report(error, arguments, code=2)
    except click.ClickException as error:
        return _report(error, arguments, code=1)
    except (click.Abort, KeyboardInterrupt):
        return _report(Failure("Interrupted."), arguments, code=1)
    except Exception as error:  # noqa: BLE001 - the outermost edge
        known = _reason(error)
        if known is None:
            _report(Failure(f"Unexpected {type(error).__name__}; see standard error."), arguments, code=1)
            click.echo(redact("".join(traceback.format_exception(error))), err=True)
            return 1
        return _report(Failure(known), arguments, code=1)


def _reason(error: Exception) -> str | None:
    """Return what the gateway, AWS, or the way to it, says; None if the error is a mistake of ours."""
    match error:
        case StoreBusy():
            return f"The table does not answer ({error}). Try again."
        case PanelgateError():
            return f"{str(error)[:1].upper()}{str(error)[1:]}."
        case ClientError():
            hint = _HINTS.get(error.response["Error"].get("Code", ""), "")
            return f"AWS refused {error.operation_name}: {error.response['Error'].get('Message', error)}{hint}"
        case BotoCoreError():
            return f"AWS: {error}"
    return None


def _report(error: click.ClickException, arguments: Sequence[str], code: int) -> int:
    if "--json" in arguments:
        click.echo(json.dumps({"error": redact(error.format_message())}))
    else:
        shown = io.StringIO()
        error.show(shown)
        click.echo(redact(shown.getvalue()), err=True, nl=False)
    return code
