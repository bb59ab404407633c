"""Builds the package: the code of all Lambdas with their libraries, its template, and its bill of materials."""

import contextlib
import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

import click
import yaml

from chalicelib.settings import VERSION
from cli.acts import Trace
from cli.console import Command, Console, Failure, pass_console

ROOT = Path(__file__).resolve().parent.parent
API_STAGE = "api"
ARCHITECTURE = "x86_64"
KEPT_BUILDS = 5
# The C library of Lambda's Python runtimes: Amazon Linux 2 for 3.11, Amazon Linux 2023 for 3.12 and 3.13.
RUNTIME_GLIBC_MINOR = {(3, 11): 26, (3, 12): 34, (3, 13): 34}
# The oldest date that a zip file can hold: a package must depend on its content and on nothing else.
ZIP_DATE = (1980, 1, 1, 0, 0, 0)

Progress = Callable[[str], None]
"""Is told what takes time."""


@click.command("package", cls=Command, trace=Trace.NONE)
@pass_console
def package_command(console: Console) -> None:
    """Build what `deploy` uploads, and say where it is."""
    package = build(console.progress)
    console.emit(
        {"archive": str(package.archive), "template": str(package.template), "bill": str(package.bill)},
        f"archive   {package.archive}\ntemplate  {package.template}\nbill      {package.bill}",
    )


@dataclass(frozen=True)
class Package:
    """What is deployed: the code of all functions, the template of the application stack, and the bill of materials."""

    archive: Path
    template: Path
    bill: Path

    @property
    def key(self) -> str:
        """The archive's name in the artifact bucket: its content's hash."""
        return f"{_digest([self.archive])}.zip"


def build(progress: Progress, root: Path = ROOT) -> Package:
    """Build the package, or find the one that was built from these very sources."""
    folder = root / ".build" / f"package-{_digest(_sources(root), base=root)[:16]}"
    package = Package(folder / "deployment.zip", folder / "template.json", folder / "bill-of-materials.json")
    if not folder.exists():
        dependencies = _dependencies(root, progress)
        progress("Packaging the application …")
        with _new_folder(folder) as fresh:
            _package(root, dependencies, fresh)
        _forget_old(folder.parent)
    return package


def _forget_old(builds: Path) -> None:
    for kind in ("package-*", "libraries-*"):
        newest_last = sorted(builds.glob(kind), key=lambda folder: folder.stat().st_mtime)
        for folder in newest_last[:-KEPT_BUILDS]:
            shutil.rmtree(folder, ignore_errors=True)


def _sources(root: Path) -> list[Path]:
    chosen = [root / "app.py", root / "requirements.txt", root / "infra" / "edge.yaml", root / "cli" / "packaging.py"]
    for folder in (root / "chalicelib", root / ".chalice"):
        chosen += (path for path in folder.rglob("*") if path.suffix in {".py", ".json", ".txt", ".pem"})
    return sorted(path for path in chosen if path.is_file() and "deployments" not in path.parts)


def _digest(paths: Iterable[Path], base: Path | None = None) -> str:
    """Return a hash of the content (and, with a base, the names) of files, and of the Python that packages them."""
    total = hashlib.sha256(f"{sys.version_info[:2]}".encode() if base else b"")
    for path in paths:
        if base:
            total.update(f"\0{path.relative_to(base)}\0".encode())
        total.update(path.read_bytes())
    return total.hexdigest()


@contextlib.contextmanager
def _new_folder(folder: Path) -> Iterator[Path]:
    """Fill a folder that appears only when it is complete, also when two processes make it at once."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=".new-") as temporary:
        fresh = Path(temporary) / folder.name
        fresh.mkdir()
        yield fresh
        with contextlib.suppress(OSError):  # the other process was faster, with the same content
            fresh.rename(folder)


def _dependencies(root: Path, progress: Progress) -> Path:
    """Return a folder with the locked libraries for Lambda's platform, each checked against its hash.

    Chalice could fetch them, but it would fetch them again for every change of ours, and some without their hashes.
    """
    lock = root / "requirements.txt"
    folder = root / ".build" / f"libraries-{_digest([lock, root / 'cli' / 'packaging.py'], base=root)[:16]}"
    if not folder.exists():
        progress("Fetching the libraries for Lambda …")
        with _new_folder(folder) as fresh:
            _run([*_pip_install(), "--requirement", str(lock), "--target", str(fresh)], cwd=root)
            for unused in [fresh / "bin", *fresh.glob("*/tests")]:
                shutil.rmtree(unused, ignore_errors=True)
            _compile(fresh)
    return folder


def _pip_install() -> list[str]:
    minor = RUNTIME_GLIBC_MINOR[sys.version_info[:2]]
    tags = [f"manylinux_2_{number}_{ARCHITECTURE}" for number in range(minor, 16, -1)]
    platforms = [option for tag in [*tags, f"manylinux2014_{ARCHITECTURE}"] for option in ("--platform", tag)]
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-compile"]
    return [*pip, "--require-hashes", "--only-binary", ":all:", *platforms]


def _package(root: Path, dependencies: Path, target: Path) -> None:
    with tempfile.TemporaryDirectory() as temporary:
        staging, output, code = (Path(temporary) / name for name in ("staging", "output", "code"))
        _stage(root, staging)
        _run(_chalice_package(root, output), cwd=staging)
        with zipfile.ZipFile(output / "deployment.zip") as archive:
            archive.extractall(code)
        _compile(code)
        _write_zip(target / "deployment.zip", [dependencies, code])
        template = _refer_to_package(yaml.safe_load((output / "sam.yaml").read_text()))
        (target / "template.json").write_text(json.dumps(template, separators=(",", ":"), sort_keys=True))
    (target / "bill-of-materials.json").write_text(json.dumps(_bill_of_materials(dependencies), indent=1))


def _bill_of_materials(dependencies: Path) -> dict[str, Any]:
    """Return what the package holds of others, in CycloneDX 1.6 (https://cyclonedx.org/docs/1.6/json/).

    It is read from what was installed, not from what was asked for; Chalice puts itself into the package.
    """
    held = {found.name: found.version for found in metadata.distributions(path=[str(dependencies)])}
    held["chalice"] = metadata.version("chalice")
    names = {name: f"pkg:pypi/{name.lower().replace('_', '-')}@{version}" for name, version in sorted(held.items())}
    return {
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "version": 1,
        "metadata": {"component": {"type": "application", "name": "panelgate", "version": VERSION}},
        "components": [
            {"type": "library", "bom-ref": purl, "name": name, "version": held[name], "purl": purl}
            for name, purl in names.items()
        ],
    }


def _stage(root: Path, staging: Path) -> None:
    staging.mkdir()
    shutil.copy(root / "app.py", staging)
    ignored = shutil.ignore_patterns("__pycache__", "deployments", "deployed")
    shutil.copytree(root / "chalicelib", staging / "chalicelib", ignore=ignored)
    shutil.copytree(root / ".chalice", staging / ".chalice", ignore=ignored)
    (staging / "requirements.txt").touch()


def _chalice_package(root: Path, output: Path) -> list[str]:
    # Without a template format of the merged file's own, Chalice falls silent and writes nothing.
    chalice = [str(Path(sys.executable).with_name("chalice")), "package", "--stage", API_STAGE]
    return [*chalice, "--template-format", "yaml", "--merge-template", str(root / "infra" / "edge.yaml"), str(output)]


def _compile(folder: Path) -> None:
    """Add byte code, never checked against its source: it halves the start of a Lambda, which cannot keep its own."""
    options = ["-q", "-j", "2", "--invalidation-mode", "unchecked-hash", "-s", str(folder), "-p", "/var/task"]
    _run([sys.executable, "-m", "compileall", *options, str(folder)], cwd=folder)


def _write_zip(target: Path, folders: Sequence[Path]) -> None:
    files = {path.relative_to(folder).as_posix(): path for folder in folders for path in folder.rglob("*")}
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, path in sorted(files.items()):
            if path.is_file():
                entry = zipfile.ZipInfo(name, ZIP_DATE)
                entry.external_attr = 0o100644 << 16
                entry.compress_type = zipfile.ZIP_DEFLATED
                archive.writestr(entry, path.read_bytes())


def _refer_to_package(template: dict[str, Any]) -> dict[str, Any]:
    """Make the archive's place a parameter, so that one template serves every account."""
    place = {"Bucket": {"Ref": "ArtifactBucket"}, "Key": {"Ref": "ArtifactKey"}}
    for resource in template["Resources"].values():
        if resource["Type"] == "AWS::Serverless::Function":
            resource["Properties"]["CodeUri"] = place
    return template


def _run(command: Sequence[str], cwd: Path) -> None:
    # Chalice wants a region although none gets into the template, and hashing must not vary byte code.
    environment = {**os.environ, "AWS_DEFAULT_REGION": "us-east-1", "PYTHONHASHSEED": "0", "PANELGATE_STAGE": "local"}
    done = subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, check=False)  # noqa: S603
    if done.returncode:
        raise Failure(f"{' '.join(command[:4])} … failed:\n{(done.stderr or done.stdout).strip()[-3000:]}")
