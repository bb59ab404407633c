"""What `panelgate deploy` uploads: only what runs there, compiled, the same on every machine; and the templates."""

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import yaml
from cyclonedx.model.bom import Bom

from cli.packaging import ROOT, Package, build

SOURCES = ("app.py", "requirements.txt", "chalicelib", "infra", ".chalice")
MAX_BYTES = 8_000_000
# The runtime brings boto3; of Chalice only what runs in a Lambda is in there; the rest is never packaged.
FORBIDDEN = {"boto3", "botocore", "s3transfer", "cli", "sandbox", "tests", "benchmarks", "infra", ".chalice", "bin"}
# https://peps.python.org/pep-0552/: the bit that says hash, without the one that says check.
UNCHECKED_HASH = 0b01


def _quiet(_message: str) -> None:
    """Tell nobody how it goes on."""


@pytest.fixture(scope="module")
def package() -> Package:
    return build(_quiet)


@pytest.fixture(scope="module")
def files(package: Package) -> dict[str, bytes]:
    with zipfile.ZipFile(package.archive) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


@pytest.fixture(scope="module")
def template(package: Package) -> dict[str, Any]:
    read: dict[str, Any] = json.loads(package.template.read_text())
    return read


@pytest.fixture(scope="module")
def data() -> dict[str, Any]:
    """Return the template of the stateful stack."""
    read: dict[str, Any] = yaml.safe_load((ROOT / "infra" / "data.yaml").read_text())
    return read


def test_all_is_compiled_and_never_checked(files: dict[str, bytes]) -> None:
    tag = sys.implementation.cache_tag
    modules = [name for name in files if name.endswith(".py")]
    assert len(modules) > 150
    for name in modules:
        folder, _, module = name.rpartition("/")
        compiled = f"{folder}/" * bool(folder) + f"__pycache__/{module.removesuffix('.py')}.{tag}.pyc"
        assert int.from_bytes(files[compiled][4:8], "little") == UNCHECKED_HASH, name
    assert sum(name.endswith(".pyc") for name in files) == len(modules)


def test_it_holds_what_runs_and_nothing_else(package: Package, files: dict[str, bytes]) -> None:
    assert {"app.py", "chalicelib/gateway.py", "chalice/app.py", "httpx/__init__.py"} <= set(files)
    assert {name.partition("/")[0] for name in files}.isdisjoint(FORBIDDEN)
    assert not [name for name in files if name.startswith(("chalice/cli", "chalice/deploy"))]
    assert not [name for name in files if "/tests/" in name]
    assert package.archive.stat().st_size < MAX_BYTES


def test_the_bill_of_materials_names_what_is_in_it_and_nothing_that_is_not_locked(
    package: Package, files: dict[str, bytes]
) -> None:
    text = package.bill.read_text()
    assert Bom.from_json(json.loads(text)) is not None  # type: ignore[attr-defined] # a decorator adds it
    named = {(part["name"], part["version"]) for part in json.loads(text)["components"]}
    matches = [re.match(r"([^/]+)-([^/]+)\.dist-info/METADATA", name) for name in files]
    held = {(match[1], match[2]) for match in matches if match}
    assert {(name.replace("-", "_"), version) for name, version in named if name != "chalice"} == held
    locks = "".join((ROOT / name).read_text() for name in ("requirements.txt", "requirements-dev.txt"))
    for name, version in named:
        assert f"\n{name.replace('_', '-')}=={version} " in f"\n{locks}", name


@pytest.mark.parametrize("name", ["requirements.txt", "requirements-dev.txt", "requirements-emulator.txt"])
def test_nothing_is_installed_that_is_not_pinned_with_its_hashes(name: str) -> None:
    requirements = (ROOT / name).read_text().replace("\\\n", " ").splitlines()
    stated = [line for line in requirements if line.strip() and not line.lstrip().startswith("#")]
    assert len(stated) > 10
    for line in stated:
        assert re.match(r"[\w.\-\[\],]+==[\w.+!]+[ ;]", line), line
        assert "--hash=sha256:" in line, line


def test_it_tells_nothing_of_the_machine_that_built_it(package: Package, files: dict[str, bytes]) -> None:
    contents = {**files, "template": package.template.read_bytes()}
    for word in [str(ROOT), os.path.realpath(sys.prefix), tempfile.gettempdir() + "/", *_registries()]:
        assert not [name for name, content in contents.items() if word.encode() in content], word
    compiled = files[f"chalicelib/__pycache__/gateway.{sys.implementation.cache_tag}.pyc"]
    assert b"/var/task/chalicelib/gateway.py" in compiled, "tracebacks name the files as they are on Lambda"


def _registries() -> set[str]:
    """Return the hosts that this machine's pip fetches from, other than the public one."""
    asked = [sys.executable, "-m", "pip", "config", "list"]
    settings = subprocess.run(asked, capture_output=True, text=True, check=True).stdout  # noqa: S603 - our own Python
    hosts = {urlsplit(url).hostname for url in re.findall(r"\w+://[^\s'\"]+", settings)}
    return {host for host in hosts if host and not host.endswith("pypi.org")}


def test_it_is_the_same_when_built_elsewhere(package: Package, tmp_path: Path) -> None:
    for name in SOURCES:
        source = ROOT / name
        copy = shutil.copytree if source.is_dir() else shutil.copy
        copy(source, tmp_path / name)
    (tmp_path / "cli").mkdir()
    shutil.copy(ROOT / "cli" / "packaging.py", tmp_path / "cli")
    (tmp_path / ".build").mkdir()
    for libraries in (ROOT / ".build").glob("libraries-*"):
        (tmp_path / ".build" / libraries.name).symlink_to(libraries)
    elsewhere = build(_quiet, tmp_path)
    assert elsewhere.archive != package.archive
    assert elsewhere.key == package.key
    assert elsewhere.template.read_bytes() == package.template.read_bytes()


def _functions(template: dict[str, Any]) -> dict[str, dict[str, Any]]:
    resources = template["Resources"].items()
    return {name: found["Properties"] for name, found in resources if found["Type"] == "AWS::Serverless::Function"}


def test_each_function_runs_on_this_python_with_room_and_time(template: dict[str, Any]) -> None:
    functions = _functions(template)
    assert "APIHandler" in functions
    assert functions["APIHandler"]["Timeout"] < 29, "API Gateway waits no longer"
    for properties in functions.values():
        assert properties["Runtime"] == "python{}.{}".format(*sys.version_info[:2])
        assert properties["MemorySize"] >= 512
        assert properties["CodeUri"] == {"Bucket": {"Ref": "ArtifactBucket"}, "Key": {"Ref": "ArtifactKey"}}


def test_the_access_log_holds_no_query_string_and_no_header(template: dict[str, Any]) -> None:
    written = template["Resources"]["RestAPI"]["Properties"]["AccessLogSetting"]["Format"]
    variables = set(re.findall(r"\$context\.([\w.]+)", written))
    assert {"requestId", "status", "resourcePath"} <= variables
    # `path` and `requestOverride` may show what a caller put into the URL, as the key of a v2 client.
    assert not {name for name in variables if re.match(r"path|requestOverride|identity\.(?!sourceIp)|authorizer", name)}
    assert "$input" not in written
    assert json.loads(re.sub(r"\$[\w.]+", "x", written)), "each line is JSON"


def test_nothing_deletes_what_is_stored(data: dict[str, Any]) -> None:
    resources: dict[str, dict[str, Any]] = data["Resources"]
    for name, resource in resources.items():
        assert (resource["DeletionPolicy"], resource["UpdateReplacePolicy"]) == ("Retain", "Retain"), name
    table = resources["Table"]["Properties"]
    assert table["DeletionProtectionEnabled"] is True
    assert table["PointInTimeRecoverySpecification"] == {"PointInTimeRecoveryEnabled": True}
    assert table["SSESpecification"] == {"SSEEnabled": True}
    access = resources["Artifacts"]["Properties"]["PublicAccessBlockConfiguration"]
    assert set(access.values()) == {True}


def test_logs_end_some_day_and_every_function_writes_to_one(data: dict[str, Any], template: dict[str, Any]) -> None:
    logs = [found["Properties"] for found in data["Resources"].values() if found["Type"] == "AWS::Logs::LogGroup"]
    assert len(logs) == 3
    audit = [log for log in logs if "audit" in str(log["LogGroupName"])]
    assert [log.get("RetentionInDays") for log in audit] == [None], "anchors are kept for ever"
    assert all(0 < log["RetentionInDays"] <= 365 for log in logs if log not in audit)
    names = [log["LogGroupName"] for log in logs]
    shared = template["Globals"]["Function"]["LoggingConfig"]["LogGroup"]
    assert shared in names
    assert not [name for name, found in _functions(template).items() if "LoggingConfig" in found]
