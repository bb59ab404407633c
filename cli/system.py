"""The whole system on this machine: an emulated AWS, both stacks, sandbox panels and a demo tenant."""

import contextlib
import fcntl
import json
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import httpx
import psutil

from chalicelib.settings import LOCAL_STAGE
from cli.console import Aws, Failure
from cli.packaging import ROOT, Progress
from cli.stacks import Record, deploy, unrecorded

START_SECONDS = 30
# MiniStack answers what is under way, then writes its state: seconds with a lot of it.
STOP_SECONDS = 20
LOG_LINES = 15
PASSED_ON = ("PATH", "HOME", "LANG", "LC_ALL")


@dataclass(frozen=True)
class Facts:
    """What a user of the running system needs to know."""

    api_url: str
    aws_endpoint: str
    demo_key: str
    sandbox_url: str


@dataclass(frozen=True)
class Started:
    """A process of ours: its id may be given to another process later, its start time may not."""

    pid: int
    created: float

    def process(self) -> psutil.Process | None:
        """Return it if it still runs."""
        process = self._holder()
        return process if process and self._is_it(process) and process.status() != psutil.STATUS_ZOMBIE else None

    def session(self) -> list[psutil.Process]:
        """Return what runs in the session that it leads: the functions' processes outlive a killed emulator."""
        holder = self._holder()
        if holder and not self._is_it(holder):
            return []  # the id, and with it perhaps the session, belongs to somebody else now
        return [process for process in psutil.process_iter() if _session(process.pid) == self.pid]

    def _holder(self) -> psutil.Process | None:
        try:
            return psutil.Process(self.pid)
        except psutil.NoSuchProcess:
            return None

    def _is_it(self, process: psutil.Process) -> bool:
        return abs(process.create_time() - self.created) < 1


def _session(pid: int) -> int | None:
    try:
        return os.getsid(pid)
    except (ProcessLookupError, PermissionError):
        return None


@dataclass
class State:
    """What one run remembers for the next, in a file that only its owner may read."""

    ports: dict[str, int] = field(default_factory=dict)
    processes: dict[str, Started] = field(default_factory=dict)
    facts: Facts | None = None

    @classmethod
    def load(cls, path: Path) -> "State":
        """Read the file; an absent or broken one means that nothing is known."""
        try:
            stored: dict[str, Any] = json.loads(path.read_text())
            processes = {name: Started(**started) for name, started in stored["processes"].items()}
            return cls(stored["ports"], processes, Facts(**stored["facts"]) if stored["facts"] else None)
        except (OSError, ValueError, KeyError, TypeError):
            return cls()

    def save(self, path: Path) -> None:
        """Write the file whole or not at all."""
        fresh = path.with_suffix(".new")
        fresh.unlink(missing_ok=True)
        with os.fdopen(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
            json.dump(asdict(self), file, indent=2)
        fresh.replace(path)


class LocalSystem:
    """The system whose state is in one folder: `.local/` of the project, or PANELGATE_LOCAL_DIR, or a test's own."""

    def __init__(self, folder: Path | None = None, root: Path = ROOT) -> None:
        self.folder = (folder or Path(os.environ.get("PANELGATE_LOCAL_DIR") or root / ".local")).resolve()
        self.root = root
        self._children: list[subprocess.Popen[bytes]] = []

    @property
    def _state_file(self) -> Path:
        return self.folder / "state.json"

    def log(self, name: str) -> Path:
        """Return the log file of `emulator` or `sandbox`."""
        return self.folder / f"{name}.log"

    def status(self) -> Facts | None:
        """Return the facts if everything runs."""
        return None if self.stopped_processes() else State.load(self._state_file).facts

    def stopped_processes(self) -> list[str]:
        """Return the names of the parts that do not run."""
        processes = State.load(self._state_file).processes
        return [name for name in ("emulator", "sandbox") if name not in processes or not processes[name].process()]

    def up(self, progress: Progress, record: Record = unrecorded) -> Facts:
        """Start everything, unless it runs already; after a failure nothing is left running.

        Args:
            progress: told what takes time.
            record: records the start in the journal; see `deploy`.
        """
        with self._locked():
            running = self.status()
            if running is not None:
                return running
            self._stop(progress)
            try:
                return self._start(progress, record)
            except BaseException:
                self._stop(progress)
                raise

    def down(self, progress: Progress, *, erase: bool = False) -> None:
        """Stop everything and wait for its end; with `erase`, forget everything."""
        if not self.folder.exists():
            return
        with self._locked():
            self._stop(progress)
        if erase:
            self._erase()

    def note_api(self, aws_endpoint: str, api_url: str) -> None:
        """Remember where a deployment to this running system put its API: the emulator may have made a new one."""
        state = State.load(self._state_file)
        if state.facts and state.facts.aws_endpoint == aws_endpoint.rstrip("/"):
            state.facts = replace(state.facts, api_url=api_url)
            state.save(self._state_file)

    # --- Starting ---------------------------------------------------------------------------------------------------

    def _start(self, progress: Progress, record: Record) -> Facts:
        progress("Starting the emulated AWS …")
        endpoint = f"http://127.0.0.1:{self._start_emulator()}"
        aws = Aws.emulated(endpoint)
        api_url = deploy(aws, LOCAL_STAGE, progress, record=record, root=self.root).api_url
        progress("Starting the sandbox panels …")
        sandbox_url = f"http://127.0.0.1:{self._start_sandbox()}"
        state = State.load(self._state_file)
        demo_key = _seed(endpoint, sandbox_url, state.facts.demo_key if state.facts else None, progress)
        facts = Facts(api_url=api_url, aws_endpoint=endpoint, demo_key=demo_key, sandbox_url=sandbox_url)
        state.facts = facts
        state.save(self._state_file)
        return facts

    def _start_emulator(self) -> int:
        python = self.root / ".venv-emulator" / "bin" / "python"
        self._check_emulator(python)
        aws, temporary = self.folder / "aws", self.folder / "tmp"
        shutil.rmtree(temporary, ignore_errors=True)
        for folder in (aws, temporary):
            folder.mkdir(parents=True, exist_ok=True)
        aws.chmod(0o700)  # secrets are in there, whatever the folder above lets others read
        port = self._port("emulator")
        settings = {
            "AUTH": "true",  # IAM is checked for every call of a function
            "BIND_HOST": "127.0.0.1",
            "GATEWAY_PORT": str(port),
            "PERSIST_STATE": "1",
            "STATE_DIR": str(aws),
            "S3_PERSIST": "1",
            "S3_DATA_DIR": str(aws / "s3"),
            "TMPDIR": str(temporary),
            "AWS_CONFIG_FILE": os.devnull,  # what a user configured for the real AWS is not for functions here
            "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
            # These three would open ports of their own, or look for containers.
            "IOT_MTLS_ENABLED": "0",
            "SFTP_ENABLED": "0",
            "DOCKER_HOST": "tcp://127.0.0.1:1",
        }
        # -P: the command's own modules must not hide MiniStack's.
        command = [str(python), "-P", str(self.root / "cli" / "emulator.py")]
        self._spawn("emulator", command, settings, port)
        return port

    @staticmethod
    def _check_emulator(python: Path) -> None:
        if not python.exists():
            raise Failure("The emulated AWS is not installed. Run `make setup`.")
        version = "{}.{}".format(*sys.version_info[:2])
        # Functions run on the emulator's Python, and are packaged for this one.
        if not list(python.parent.parent.glob(f"lib/python{version}/site-packages/ministack")):
            raise Failure(f"The emulated AWS is not installed for Python {version}. Run `make clean setup`.")

    def _start_sandbox(self) -> int:
        port = self._port("sandbox")
        orders = self.folder / "sandbox.json"
        command = [sys.executable, "-m", "sandbox", "--port", str(port), "--state", str(orders)]
        self._spawn("sandbox", command, {"TMPDIR": str(self.folder / "tmp")}, port)
        return port

    def _port(self, name: str) -> int:
        last = State.load(self._state_file).ports.get(name)
        return last if last and _is_free(last) else _free_port()

    def _spawn(self, name: str, command: list[str], settings: dict[str, str], port: int) -> None:
        """Start a process in a session of its own, with an environment made from scratch, and wait for its port."""
        environment = {key: os.environ[key] for key in PASSED_ON if key in os.environ} | settings
        with self.log(name).open("wb") as log:
            child = subprocess.Popen(  # noqa: S603 - both commands are ours
                command,
                cwd=self.root,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self._children.append(child)
        state = State.load(self._state_file)
        state.ports[name] = port
        state.processes[name] = Started(child.pid, psutil.Process(child.pid).create_time())
        state.save(self._state_file)
        self._wait_for_port(name, child, port)

    def _wait_for_port(self, name: str, child: "subprocess.Popen[bytes]", port: int) -> None:
        deadline = time.monotonic() + START_SECONDS
        while not _answers(port):
            if child.poll() is not None:
                raise Failure(f"The {name} ended at its start:\n{self.last_lines(name)}")
            if time.monotonic() > deadline:
                raise Failure(f"The {name} did not start in {START_SECONDS} s:\n{self.last_lines(name)}")
            time.sleep(0.05)

    def last_lines(self, name: str) -> str:
        """Return the end of a part's log."""
        try:
            lines = self.log(name).read_text(errors="replace").splitlines()
        except OSError:
            return "  (it wrote nothing)"
        return "\n".join(f"  {line}" for line in lines[-LOG_LINES:]) or "  (it wrote nothing)"

    # --- Stopping ---------------------------------------------------------------------------------------------------

    def _stop(self, progress: Progress) -> None:
        state = State.load(self._state_file)
        if any(started.process() or started.session() for started in state.processes.values()):
            progress("Stopping …")
        for started in state.processes.values():
            _end(started)
        for child in self._children:
            child.wait()
        self._children.clear()
        state.processes.clear()
        if self._state_file.exists():
            state.save(self._state_file)

    def _erase(self) -> None:
        """Remove what is ours: the folder may have been chosen by the user."""
        for name in ("aws", "tmp"):
            shutil.rmtree(self.folder / name, ignore_errors=True)
        for name in ("state.json", "state.new", "sandbox.json", "emulator.log", "sandbox.log", "lock"):
            (self.folder / name).unlink(missing_ok=True)
        with contextlib.suppress(OSError):
            self.folder.rmdir()

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        """Let one command at a time start or stop this system."""
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        with (self.folder / "lock").open("w") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise Failure("Another `panelgate local` is starting or stopping this system.") from None
            yield


def _end(started: Started) -> None:
    """Ask a process to end, wait, insist; then end what it left behind."""
    leader = started.process()
    if leader is not None:
        with contextlib.suppress(psutil.NoSuchProcess):
            leader.terminate()
            psutil.wait_procs([leader], timeout=STOP_SECONDS)
    left = started.session()
    for process in left:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()
    psutil.wait_procs(left, timeout=STOP_SECONDS)


def _seed(endpoint: str, sandbox_url: str, previous_key: str | None, progress: Progress) -> str:
    """Make five providers and a demo tenant, unless they are there, and return the tenant's key."""
    from cli.seed import seed  # noqa: PLC0415 - it needs the whole gateway, which `status` and `down` do not

    progress("Setting up providers and a demo tenant …")
    return seed(
        endpoint=endpoint, stage=LOCAL_STAGE, sandbox_url=sandbox_url, previous_key=previous_key, progress=progress
    )


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
        return True


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _answers(port: int) -> bool:
    """Whether an HTTP server answers there, whatever it answers."""
    try:
        httpx.get(f"http://127.0.0.1:{port}/", timeout=5, trust_env=False)
    except httpx.HTTPError:
        return False
    return True
