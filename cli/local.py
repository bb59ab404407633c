"""`panelgate local`: the whole system on this machine."""

import signal
import threading
from dataclasses import asdict
from functools import partial
from types import FrameType

import click
import httpx

from chalicelib.settings import LOCAL_STAGE
from cli.acts import Trace
from cli.console import Aws, Console, Failure, Group, pass_console
from cli.system import Facts, LocalSystem

WATCH_SECONDS = 1.0


@click.group("local", cls=Group)
@pass_console
def local_command(console: Console) -> None:
    """Run the whole system on this machine, with an emulated AWS and sandbox panels."""
    console.stage = LOCAL_STAGE


@local_command.command(trace=Trace.OWN)
@click.option("--detach", is_flag=True, help="Leave it running and return.")
@pass_console
def up(console: Console, *, detach: bool) -> None:
    """Start it. State is kept from one start to the next."""
    _let_signals_interrupt()
    system = LocalSystem()
    running = system.status() is not None
    facts = system.up(console.progress, partial(_record, console))
    if running:
        console.progress("It is running already.")
    console.emit(asdict(facts), _describe(facts))
    console.end_act()
    if not detach and not running:
        _stay(system, console)


def _record(console: Console, aws: Aws) -> bool:
    """Record the start in the journal of the system that is being started, if it has one already."""
    console.aws = aws
    return console.begin_if_possible()


@local_command.command(trace=Trace.NONE)
@pass_console
def status(console: Console) -> None:
    """Say where it answers; exit with 1 when it does not run."""
    system = LocalSystem()
    facts = system.status()
    if facts is None:
        stopped = system.stopped_processes()
        detail = f" ({stopped[0]} has ended)" if len(stopped) == 1 else ""
        raise Failure(f"The local system is not running{detail}. Start it with `panelgate local up`.")
    console.emit(asdict(facts), _describe(facts))


@local_command.command(trace=Trace.NONE)
@click.option("--erase", is_flag=True, help="Forget all its state, too.")
@pass_console
def down(console: Console, *, erase: bool) -> None:
    """Stop it."""
    system = LocalSystem()
    system.down(console.progress, erase=erase)
    console.emit({"running": False, "erased": erase}, "It is stopped, and its state erased." if erase else "Stopped.")


def _stay(system: LocalSystem, console: Console) -> None:
    """Wait for Ctrl-C or SIGTERM, then take the system down; also when a part of it ends by itself."""
    console.progress("Press Ctrl-C to stop it.")
    asked = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda _number, _frame: asked.set())
    while not asked.wait(WATCH_SECONDS):
        stopped = system.stopped_processes()
        if len(stopped) == 1:
            log = system.last_lines(stopped[0])
            system.down(console.progress)
            raise Failure(f"The {stopped[0]} has ended:\n{log}")
        if stopped:  # `panelgate local down`, in another terminal
            return
    system.down(console.progress)


def _let_signals_interrupt() -> None:
    """Let SIGTERM and a closed terminal end a start as Ctrl-C does (and Ctrl-C, where a shell had it ignored)."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _interrupt)


def _interrupt(_number: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def _describe(facts: Facts) -> str:
    v2 = f"curl {facts.api_url}/v2 -d key={facts.demo_key}"
    calls = "\n".join(f"  {v2} {call}" for call in ["-d action=balance", *_sample_orders(facts)])
    return f"""
  API       {facts.api_url}
  key       {facts.demo_key}
  AWS       {facts.aws_endpoint} (us-east-1, credentials test / test)
  sandbox   {facts.sandbox_url}

The classic protocol:

{calls}

JSON:

  curl {facts.api_url}/v3 -H 'Content-Type: application/json' -H 'Authorization: Bearer {facts.demo_key}' \\
    -d '{{"action": "balance"}}'
"""


def _sample_orders(facts: Facts) -> list[str]:
    """Return an order of the first service there is, if the API lists any."""
    question = {"key": facts.demo_key, "action": "services"}
    try:
        services = httpx.post(f"{facts.api_url}/v2", data=question, timeout=30, trust_env=False).json()
        chosen = next(service for service in services if service["type"] == "Default")
    except (httpx.HTTPError, ValueError, TypeError, KeyError, StopIteration):
        return []
    place = f"-d action=add -d service={chosen['service']} -d quantity={chosen['min']}"
    return [f"{place} -d link=https://example.com/post/1"]
