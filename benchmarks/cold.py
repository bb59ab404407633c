"""What a new container does before its first request: fresh interpreters, beside ones that import something else.

The interpreters see the unpacked package and, beside it, what Lambda's runtime brings; nothing else is installed, so
that no library finds here what it will not find there.
"""

import importlib.util
import os
import re
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import zipfile
from collections import Counter
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.table import show

ROUNDS = 7
SLOWEST = 12
# What Lambda's runtime brings, and what that needs.
RUNTIME = ("boto3", "botocore", "s3transfer", "jmespath", "dateutil", "six", "urllib3")
LAMBDA = {"AWS_LAMBDA_FUNCTION_NAME": "benchmark"}
ENVIRONMENT = {
    "AWS_ACCESS_KEY_ID": "test",
    "AWS_SECRET_ACCESS_KEY": "test",
    "AWS_DEFAULT_REGION": "us-east-1",
    "AWS_EC2_METADATA_DISABLED": "true",
    "PANELGATE_STAGE": "local",
    "PYTHONHASHSEED": "0",
}
NAIVE_IMPORTS = "import chalice.app, boto3, httpx, pydantic"
NAIVE_START = f"""{NAIVE_IMPORTS}
boto3.client("dynamodb"), boto3.client("secretsmanager"), httpx.Client()
class Order(pydantic.BaseModel):
    service: int
    link: str
    quantity: int
"""


@dataclass(frozen=True)
class Case:
    """An interpreter to start: what it runs, and whether the package still has its byte code."""

    name: str
    code: str
    compiled: bool = True
    environment: Mapping[str, str] = field(default_factory=dict)


CASES = (
    Case("Python alone", "pass"),
    Case("import chalice.app", "import chalice.app"),
    Case("import app", "import app"),
    Case("naive imports", NAIVE_IMPORTS),
    Case("app, started as in a Lambda", "import app", environment=LAMBDA),
    Case("the same without .pyc", "import app", compiled=False, environment=LAMBDA),
    Case("naive start", NAIVE_START),
)


@dataclass(frozen=True)
class Machine:
    """Where the package and the runtime lie, for interpreters that see nothing else."""

    folder: Path

    @classmethod
    def prepare(cls, folder: Path, archive: Path) -> "Machine":
        """Unpack the package, with its byte code and without."""
        for name in ("compiled", "bare"):
            with zipfile.ZipFile(archive) as opened:
                opened.extractall(folder / name)
        for cache in list((folder / "bare").rglob("__pycache__")):
            shutil.rmtree(cache)
        _link_runtime(folder / "runtime")
        return cls(folder)

    def command(self, case: Case, *options: str) -> list[str]:
        """Return the command line of a case."""
        package = "compiled" if case.compiled else "bare"
        paths = [str(self.folder / package), str(self.folder / "runtime")]
        return [sys.executable, "-I", "-S", "-B", *options, "-c", f"import sys; sys.path[:0] = {paths}\n{case.code}"]

    def run(self, case: Case, *options: str, before: tuple[str, ...] = ()) -> str:
        """Run a case to its end and return what it told on standard error."""
        environment = {**ENVIRONMENT, **case.environment, "PATH": os.environ["PATH"]}
        command = [*before, *self.command(case, *options)]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)  # noqa: S603 - ours
        return done.stderr


def _link_runtime(folder: Path) -> None:
    folder.mkdir()
    for name in RUNTIME:
        found = importlib.util.find_spec(name)
        if found is None or found.origin is None:
            continue  # this version of the runtime needs it no more
        origin = Path(found.origin)
        source = origin.parent if origin.name == "__init__.py" else origin
        (folder / source.name).symlink_to(source)
    cache = Path(str(importlib.util.find_spec("six").cached)).parent  # type: ignore[union-attr]
    (folder / "__pycache__").symlink_to(cache)


def run(archive: Path, progress: Callable[[str], None]) -> None:
    """Print what each start costs, and where the time of ours goes."""
    with tempfile.TemporaryDirectory() as folder:
        machine = Machine.prepare(Path(folder), archive)
        progress("Measuring cold starts …")
        instructions = _instructions(machine) if shutil.which("valgrind") else {}
        times = _times(machine)
        _show_starts(instructions, times)
        _show_imports(machine)


def _show_starts(instructions: Mapping[str, float], times: Mapping[str, list[float]]) -> None:
    base = statistics.median(times["naive start"])
    rows = [
        (
            case.name,
            f"{instructions[case.name]:,.0f}" if instructions else "-",
            f"{instructions[case.name] / instructions['naive start']:.2f}" if instructions else "-",
            min(times[case.name]),
            statistics.median(times[case.name]),
            statistics.median(times[case.name]) / base,
        )
        for case in CASES
    ]
    head = ("interpreter", "M instructions", "× naive start", "CPU ms, least", "median", "× naive start")
    show(f"Cold start, a whole process (CPU: {ROUNDS} rounds in turns)", head, rows)


def _times(machine: Machine) -> dict[str, list[float]]:
    """Return the processor time of each case in ms; the first round, which warms the disk's cache, is left out."""
    rounds = [{case.name: _time(machine, case) for case in CASES} for _ in range(ROUNDS + 1)][1:]
    return {case.name: [measured[case.name] for measured in rounds] for case in CASES}


def _time(machine: Machine, case: Case) -> float:
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    machine.run(case)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return (after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime) * 1000


def _instructions(machine: Machine) -> dict[str, float]:
    """Return how many million instructions each case takes: the yardstick that no neighbour moves."""
    counter = ("valgrind", "--tool=cachegrind", "--cache-sim=no", "--cachegrind-out-file=/dev/null")

    def count(case: Case) -> float:
        told = machine.run(case, before=counter)
        found = re.search(r"I +refs: +([\d,]+)", told)
        return int(found[1].replace(",", "")) / 1e6 if found else float("nan")

    with ThreadPoolExecutor(os.cpu_count()) as threads:
        return dict(zip([case.name for case in CASES], threads.map(count, CASES), strict=True))


def _show_imports(machine: Machine) -> None:
    """Print the modules and the libraries that take the most time of ``import app``, without what they import."""
    own: dict[str, list[int]] = {}
    case = next(case for case in CASES if case.name == "import app")
    for _ in range(ROUNDS):
        for line in machine.run(case, "-X", "importtime").splitlines():
            if found := re.match(r"import time: +(\d+) \| +\d+ \| +(\S+)", line):
                own.setdefault(found[2], []).append(int(found[1]))
    medians = {name: statistics.median(times) / 1000 for name, times in own.items()}
    libraries, modules = Counter[str](), Counter[str]()
    for name, milliseconds in medians.items():
        library = name.partition(".")[0]
        libraries[library] += milliseconds  # type: ignore[assignment]
        modules[library] += 1
    head = ("library", "modules", "ms")
    rows = [(name, modules[name], float(total)) for name, total in libraries.most_common(SLOWEST)]
    show(f"`import app` by library, its own time ({sum(medians.values()):.0f} ms in all, while traced)", head, rows)
    slowest = sorted(medians.items(), key=lambda item: -item[1])[:SLOWEST]
    show("Its slowest modules, their own time", ("module", "ms"), slowest)
