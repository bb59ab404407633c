"""What all tests share: an emulated AWS in a process of its own, and a stage in it that belongs to one test."""

import contextlib
import itertools
import logging
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import boto3
import httpx
import hypothesis
import pytest
import yaml
from botocore.config import Config
from chalice.app import Chalice

from chalicelib import redaction
from tests import tally
from tests.market import Market
from tests.panels import matrix
from tests.world import REGION, World

ROOT = Path(__file__).parent.parent
# What an example may take depends on who else uses the machine.
hypothesis.settings.register_profile("panelgate", deadline=None)
hypothesis.settings.load_profile("panelgate")
_numbers = itertools.count(1)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print what the suites of many cases came to; pytest finds its hooks here, whatever is run."""
    matrix.pytest_terminal_summary(terminalreporter)
    tally.summarize(terminalreporter)


@pytest.fixture
def application() -> Chalice:
    """Return the app that is deployed; without its log, which it sets up where it is imported.

    A blueprint can be registered once in a process: Chalice takes the methods out of the routes' own declarations.
    """
    root = logging.getLogger()
    handlers = root.handlers
    from app import app  # noqa: PLC0415 - only now are the handlers known that pytest has added

    root.handlers = handlers
    return app


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture(scope="session")
def emulator(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Return the URL of an empty emulated AWS that ends with the tests."""
    with emulated_aws(tmp_path_factory.mktemp("emulator")) as url:
        yield url


@contextlib.contextmanager
def emulated_aws(folder: Path, **settings: str) -> Iterator[str]:
    """Yield the URL of an emulated AWS with further settings, which has its files in a folder."""
    port = free_port()
    environment = {
        "PATH": os.environ["PATH"],
        "HOME": str(folder),
        "TMPDIR": str(folder),
        "BIND_HOST": "127.0.0.1",
        "GATEWAY_PORT": str(port),
        "IOT_MTLS_ENABLED": "0",
        "SFTP_ENABLED": "0",
        "DOCKER_HOST": "tcp://127.0.0.1:1",
        **settings,
    }
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(  # noqa: S603 - both files are ours
            [ROOT / ".venv-emulator/bin/python", "-P", ROOT / "cli/emulator.py"],
            env=environment,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    url = f"http://127.0.0.1:{port}"
    try:
        _await(url, process)
        yield url
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def _await(url: str, process: "subprocess.Popen[bytes]") -> None:
    for _ in range(600):
        try:
            httpx.get(url, timeout=2, trust_env=False)
        except httpx.HTTPError:
            assert process.poll() is None, "the emulator ended at its start"
            time.sleep(0.05)
        else:
            return
    pytest.fail("the emulator did not start within 30 s")


def aws_client(service: str, endpoint: str) -> Any:
    """Return a client of the emulated AWS, without retries."""
    session: Any = boto3.Session(aws_access_key_id="test", aws_secret_access_key="test", region_name=REGION)
    return session.client(service, endpoint_url=endpoint, config=Config(retries={"total_max_attempts": 1}))


def table_schema() -> dict[str, Any]:
    """Return the table of the stateful stack, as CreateTable takes it."""
    template = yaml.safe_load((ROOT / "infra/data.yaml").read_text())
    properties = template["Resources"]["Table"]["Properties"]
    kept = ("AttributeDefinitions", "KeySchema", "GlobalSecondaryIndexes", "BillingMode")
    return {name: properties[name] for name in kept}


@contextlib.contextmanager
def empty_table(stage: str, dynamodb: Any) -> Iterator[None]:
    """Have the table of a stage, and nothing in it, as long as this lasts."""
    dynamodb.create_table(TableName=f"panelgate-{stage}", **table_schema())
    try:
        yield
    finally:
        dynamodb.delete_table(TableName=f"panelgate-{stage}")


@contextlib.contextmanager
def stages(name: str, dynamodb: Any) -> Iterator[Callable[[], str]]:
    """Yield what makes a stage with an empty table, called after ``name``; their tables are gone afterwards."""
    numbers = itertools.count()
    with contextlib.ExitStack() as tables:

        def new() -> str:
            stage = f"{name}-{next(numbers)}"
            tables.enter_context(empty_table(stage, dynamodb))
            return stage

        yield new


@pytest.fixture(autouse=True)
def _no_keys_known(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let no test's texts lose what was a key in another one: the guard is one for the process, and forgets nothing."""
    monkeypatch.setattr(redaction._guard, "_spellings", {})  # noqa: SLF001
    monkeypatch.setattr(redaction._guard, "_pieces", set())  # noqa: SLF001


@pytest.fixture
def stage_name(worker_id: str) -> str:
    return f"t{os.getpid()}-{worker_id}-{next(_numbers)}"


@pytest.fixture(scope="session")
def dynamodb(emulator: str) -> Any:
    return aws_client("dynamodb", emulator)


@pytest.fixture(scope="session")
def secrets_manager(emulator: str) -> Any:
    return aws_client("secretsmanager", emulator)


@pytest.fixture
def new_stage(stage_name: str, dynamodb: Any) -> Iterator[Callable[[], str]]:
    """Return what makes a stage with an empty table."""
    with stages(stage_name, dynamodb) as new:
        yield new


@pytest.fixture
def world(new_stage: Callable[[], str], dynamodb: Any, secrets_manager: Any) -> World:
    """Return a stage of this test's own: a table, one provider `smosale` with a pretend panel, and a tenant."""
    return World.new(new_stage(), dynamodb, secrets_manager)


@pytest.fixture
def market(request: pytest.FixtureRequest, new_stage: Callable[[], str], dynamodb: Any, secrets_manager: Any) -> Market:
    """Return a stage of this test's own with the sandbox's panels in this process: all, or those of its mark."""
    panels = request.node.get_closest_marker("panels")
    return Market.new(new_stage(), dynamodb, secrets_manager, slugs=panels.args if panels else ())


if sys.platform != "linux":
    pytest.exit("the tests need Linux: the emulator stops and continues processes")
