"""`panelgate local`, as a user runs it: a command in a process of its own, with a state folder of its own."""

import json
import os
import shutil
import signal
import stat
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest

from cli.packaging import ROOT
from tests.deployed.conftest import eventually

pytestmark = [
    pytest.mark.deployed,
    pytest.mark.skipif("PANELGATE_STAGE" in os.environ, reason="this is about the system of this machine"),
]
FACTS = ["api_url", "aws_endpoint", "demo_key", "sandbox_url"]
LINK = "https://example.com/post/1"
PANELGATE = str(Path(sys.executable).with_name("panelgate"))
# What a copy of the project needs in order to start; its build is taken over.
PROJECT = ("app.py", "requirements.txt", "chalicelib", "cli", "infra", "sandbox", ".chalice")
MAIN = "import sys; from cli.main import main; sys.exit(main())"


@dataclass(frozen=True)
class LocalCommand:
    """`panelgate local` with a folder of its own, of this project or of a copy."""

    folder: Path
    root: Path = ROOT

    def start(self, *arguments: str) -> "subprocess.Popen[str]":
        command = [PANELGATE] if self.root == ROOT else [sys.executable, "-c", MAIN]
        return subprocess.Popen(  # noqa: S603 - ours
            [*command, "local", *arguments],
            cwd=self.root,  # where Python looks first, after `-c`
            env={**os.environ, "PANELGATE_LOCAL_DIR": str(self.folder)},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def run(self, *arguments: str) -> "subprocess.CompletedProcess[str]":
        process = self.start(*arguments)
        out, err = process.communicate(timeout=120)
        return subprocess.CompletedProcess(arguments, process.returncode, out, err)

    def json(self, *arguments: str) -> dict[str, Any]:
        """Run it with `--json`; it must succeed and print one document and nothing else."""
        done = self.run(*arguments, "--json")
        assert done.returncode == 0, done.stderr
        document: dict[str, Any] = json.loads(done.stdout)
        return document

    def processes(self) -> list[psutil.Process]:
        """Return all that runs with this folder in its environment: the parts, the Lambdas, the command itself."""
        return [process for process in psutil.process_iter() if str(self.folder) in _environment(process)]


def _environment(process: psutil.Process) -> str:
    try:
        return " ".join(process.environ().values()) if process.status() != psutil.STATUS_ZOMBIE else ""
    except (psutil.NoSuchProcess, psutil.AccessDenied):
        return ""


@pytest.fixture
def local(tmp_path: Path) -> Iterator[LocalCommand]:
    command = LocalCommand(tmp_path / "local")
    try:
        yield command
    finally:
        LocalCommand(command.folder).run("down", "--erase")
        left = command.processes()
        for process in left:
            process.kill()
        assert left == []


def ask(facts: dict[str, Any], **fields: Any) -> Any:
    """Call the API of a running system with its demo key, as a client of the classic protocol."""
    form = {"key": facts["demo_key"], **fields}
    return httpx.post(f"{facts['api_url']}/v2", data=form, timeout=40, trust_env=False).json()


def order(facts: dict[str, Any]) -> Any:
    service = next(row for row in ask(facts, action="services") if row["type"] == "Default")
    fields = {"service": service["service"], "quantity": service["min"], "link": LINK}
    return ask(facts, action="add", **fields)["order"]


def test_its_life(local: LocalCommand) -> None:
    silent = local.run("status", "--json")
    assert (silent.returncode, list(json.loads(silent.stdout))) == (1, ["error"])

    facts = local.json("up", "--detach")
    assert sorted(facts) == FACTS
    number = order(facts)
    money = ask(facts, action="balance")
    assert float(money["balance"]) < 100

    assert _acts(local) == [("local up", "done")]

    again = local.run("up", "--detach", "--json")
    assert json.loads(again.stdout) == facts
    assert "running already" in again.stderr
    assert local.json("status") == facts
    _assert_on_loopback_only(local)
    _assert_private(local, facts["demo_key"])

    stopped = local.run("down")
    assert (stopped.returncode, local.processes()) == (0, [])
    assert local.run("status").returncode == 1
    assert local.run("down").returncode == 0, "nothing to stop is no failure"

    warm = local.json("up", "--detach")
    assert warm["demo_key"] == facts["demo_key"]
    assert _acts(local) == [("local up", "done")] * 2
    assert ask(warm, action="balance") == money
    assert ask(warm, action="status", order=number)["status"] in {"Pending", "Processing", "In progress", "Completed"}

    assert local.json("down", "--erase") == {"running": False, "erased": True}
    assert not local.folder.exists()


def _acts(local: LocalCommand) -> list[tuple[str, str]]:
    """Return what the journal says was done; a start that found everything running did nothing."""
    told = subprocess.run(  # noqa: S603 - ours
        [PANELGATE, "--stage", "local", "audit", "--json"],
        env={**os.environ, "PANELGATE_LOCAL_DIR": str(local.folder)},
        capture_output=True,
        text=True,
        check=True,
    )
    return [(act["act"], act["outcome"]) for act in json.loads(told.stdout)["acts"]]


def _assert_on_loopback_only(local: LocalCommand) -> None:
    ours = {process.pid for process in local.processes()}
    listening = {psutil.CONN_LISTEN, psutil.CONN_NONE}  # TCP, and UDP
    sockets = [entry for entry in psutil.net_connections("inet") if entry.pid in ours and entry.status in listening]
    assert {entry.laddr.ip for entry in sockets if entry.laddr} == {"127.0.0.1"}


def _assert_private(local: LocalCommand, demo_key: str) -> None:
    """The demo key is in one file only, which nobody else may read."""
    holders = [path for path in local.folder.rglob("*") if path.is_file() and demo_key.encode() in path.read_bytes()]
    assert [path.name for path in holders] == ["state.json"]
    assert stat.S_IMODE(holders[0].stat().st_mode) == 0o600
    assert stat.S_IMODE(local.folder.stat().st_mode) == 0o700


def test_ctrl_c_stops_everything(local: LocalCommand) -> None:
    process = local.start("up", "--json")
    assert process.stdout is not None
    facts = json.loads(process.stdout.readline())
    assert ask(facts, action="balance")["balance"] == "100"
    assert local.json("status") == facts

    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert (process.returncode, local.processes()) == (0, []), err
    assert "Traceback" not in err


def test_ctrl_c_during_the_start_leaves_nothing_running(local: LocalCommand) -> None:
    process = local.start("up")
    assert eventually(lambda: "emulator" in _parts(local))
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert (process.returncode, local.processes()) == (1, []), err
    assert "Interrupted" in err
    assert "Traceback" not in err


def _parts(local: LocalCommand) -> dict[str, Any]:
    try:
        parts: dict[str, Any] = json.loads((local.folder / "state.json").read_text())["processes"]
    except FileNotFoundError:
        return {}
    return parts


def test_down_after_a_killed_emulator_leaves_no_lambda_behind(local: LocalCommand) -> None:
    facts = local.json("up", "--detach")
    ask(facts, action="balance")
    emulator = psutil.Process(_parts(local)["emulator"]["pid"])
    workers = emulator.children(recursive=True)
    assert workers, "no Lambda ran: this would show nothing"

    emulator.kill()
    assert eventually(lambda: local.run("status").returncode == 1)
    assert "emulator has ended" in local.run("status").stderr
    assert any(worker.is_running() for worker in workers), "the Lambdas ended by themselves: this shows nothing"

    assert local.run("down").returncode == 0
    assert local.processes() == []


@pytest.fixture
def copied(local: LocalCommand, tmp_path: Path) -> LocalCommand:
    """Return the command of a copy of this project, which may be broken."""
    root = tmp_path / "project"
    root.mkdir()
    for name in PROJECT:
        source = ROOT / name
        copy = shutil.copytree if source.is_dir() else shutil.copy
        copy(source, root / name)
    (root / ".build").symlink_to(ROOT / ".build")
    return LocalCommand(local.folder, root)


def test_without_the_emulator_it_says_what_to_do(copied: LocalCommand) -> None:
    failed = copied.run("up", "--detach", "--json")
    assert failed.returncode == 1
    assert "make setup" in json.loads(failed.stdout)["error"]
    assert copied.processes() == []


@pytest.mark.parametrize(
    ("sound", "broken"),
    [
        pytest.param("AWS::DynamoDB::Table", "AWS::DynamoDB::Tabel", id="refused"),
        pytest.param("[AccessLogWriter, Arn]", "[AccessLogWriter, Nose]", id="rolled back"),
    ],
)
def test_a_broken_template_says_why_and_leaves_nothing_running(copied: LocalCommand, sound: str, broken: str) -> None:
    (copied.root / ".venv-emulator").symlink_to(ROOT / ".venv-emulator")
    template = copied.root / "infra" / "data.yaml"
    template.write_text(template.read_text().replace(sound, broken))
    failed = copied.run("up", "--detach", "--json")
    assert failed.returncode == 1
    reason = json.loads(failed.stdout)["error"]
    assert "Tabel" in reason or "panelgate-local-data ended as" in reason
    assert copied.processes() == []
    assert copied.run("status").returncode == 1
