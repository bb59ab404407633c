"""Builds the package and puts both stacks into an AWS account, real or emulated, by the same road."""

import contextlib
import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
import zipfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import httpx
import yaml
from botocore.exceptions import ClientError

from chalicelib.settings import LOCAL_STAGE, VERSION
from cli.acts import Trace
from cli.console import Aws, Command, Console, Failure, pass_console

if TYPE_CHECKING:
    from types_boto3_cloudformation import CloudFormationClient
    from types_boto3_cloudformation.type_defs import ParameterTypeDef

ROOT = Path(__file__).resolve().parent.parent
API_STAGE = "api"
CAPABILITIES: list[Any] = ["CAPABILITY_IAM", "CAPABILITY_AUTO_EXPAND"]
NO_CHANGES = ("didn't contain changes", "No updates are to be performed")
STACK_DEADLINE_SECONDS = 900
HEALTH_DEADLINE_SECONDS = 90
ARCHITECTURE = "x86_64"
KEPT_BUILDS = 5
# The C library of Lambda's Python runtimes: Amazon Linux 2 for 3.11, Amazon Linux 2023 for 3.12 and 3.13.
RUNTIME_GLIBC_MINOR = {(3, 11): 26, (3, 12): 34, (3, 13): 34}
# The oldest date that a zip file can hold: a package must depend on its content and on nothing else.
ZIP_DATE = (1980, 1, 1, 0, 0, 0)

Progress = Callable[[str], None]
Record = Callable[[Aws], bool]


# --- The package ----------------------------------------------------------------------------------------------------


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
    chosen = [root / "app.py", root / "requirements.txt", root / "infra" / "edge.yaml", root / "cli" / "deployment.py"]
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
    folder = root / ".build" / f"libraries-{_digest([lock, root / 'cli' / 'deployment.py'], base=root)[:16]}"
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


# --- The stacks -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Deployed:
    """Where the application answers, and the name of its package, which is the content's hash."""

    api_url: str
    package: str
    domain_url: str | None = None
    domain_target: str | None = None


def unrecorded(_aws: Aws) -> bool:
    """Record nothing: for those who are no operators."""
    return True


def deploy(  # noqa: PLR0913 - a deployment is made of these
    aws: Aws,
    stage: str,
    progress: Progress,
    *,
    record: Record = unrecorded,
    domain: str | None = None,
    certificate: str | None = None,
    root: Path = ROOT,
) -> Deployed:
    """Put both stacks in place, and return when the API answers.

    Args:
        aws: where to.
        stage: which.
        progress: told what takes time.
        record: records the deployment in the stage's journal, and returns False where there is none yet. It is called
            before anything is changed, and again once there is one: the first deployment makes it.
        domain: a host name of the operator's own.
        certificate: the certificate for it.
        root: the project's folder.
    """
    package = build(progress, root)
    is_recorded = record(aws)
    cloudformation = aws.session.client("cloudformation", endpoint_url=aws.endpoint)
    data = Stack(cloudformation, f"panelgate-{stage}-data", progress)
    bucket = data.apply((root / "infra" / "data.yaml").read_text(), {"Stage": stage})["ArtifactBucket"]
    if not is_recorded and not record(aws):
        raise Failure(f"The stage {stage} has no journal, although its stack is in place: see `infra/README.md`.")
    _upload(aws, package, bucket, progress)
    parameters: dict[str, str | None] = {"Stage": stage, "ArtifactBucket": bucket, "ArtifactKey": package.key}
    parameters |= {"DomainName": domain, "CertificateArn": certificate}
    outputs = Stack(cloudformation, f"panelgate-{stage}", progress).apply(package.template.read_text(), parameters)
    deployed = Deployed(
        _api_url(aws, outputs), package.key, domain and f"https://{domain}/api", outputs.get("DomainTarget")
    )
    _wait_for_health(deployed.api_url, progress, through_proxy=aws.endpoint is None)
    return deployed


def deployed_api_url(aws: Aws, stage: str) -> str:
    """Return where a stage's API answers.

    Raises:
        Failure: the stage is not deployed.
    """
    cloudformation = aws.session.client("cloudformation", endpoint_url=aws.endpoint)
    outputs = Stack(cloudformation, f"panelgate-{stage}", lambda _message: None).outputs()
    if not outputs:
        raise Failure(f"The stage {stage} is not deployed. `panelgate deploy --stage {stage}` does it.")
    return _api_url(aws, outputs)


def _upload(aws: Aws, package: Package, bucket: str, progress: Progress) -> None:
    s3 = aws.session.client("s3", endpoint_url=aws.endpoint)
    try:
        s3.head_object(Bucket=bucket, Key=package.key)
    except ClientError as error:
        if error.response["Error"]["Code"] not in {"404", "NoSuchKey", "NotFound"}:
            raise
        progress("Uploading the package …")
        s3.put_object(Bucket=bucket, Key=f"{package.key}.cdx.json", Body=package.bill.read_bytes())
        s3.put_object(Bucket=bucket, Key=package.key, Body=package.archive.read_bytes())


def _api_url(aws: Aws, outputs: dict[str, str]) -> str:
    if aws.endpoint:
        return f"{aws.endpoint}/_aws/execute-api/{outputs['RestAPIId']}/{API_STAGE}"
    return outputs["EndpointURL"].rstrip("/")


def _wait_for_health(api_url: str, progress: Progress, *, through_proxy: bool) -> None:
    progress("Waiting for the API to answer …")
    deadline = time.monotonic() + HEALTH_DEADLINE_SECONDS
    while True:
        answer = _ask(f"{api_url}/health", through_proxy=through_proxy)
        if answer == "200":
            return
        if time.monotonic() > deadline:
            raise Failure(f"{api_url}/health does not answer 200, but: {answer}")
        time.sleep(0.5)


def _ask(url: str, *, through_proxy: bool) -> str:
    try:
        response = httpx.get(url, timeout=35, trust_env=through_proxy)
    except httpx.HTTPError as error:
        return f"{type(error).__name__}: {error}"
    return "200" if response.status_code == httpx.codes.OK else f"{response.status_code} {response.text[:300]}"


@dataclass(frozen=True)
class Stack:
    """One CloudFormation stack."""

    cloudformation: "CloudFormationClient"
    name: str
    progress: Progress

    def apply(self, template: str, parameters: Mapping[str, str | None]) -> dict[str, str]:
        """Create or update the stack, and return its outputs. A parameter that is None keeps what it was."""
        status = self._status()
        if status == "ROLLBACK_COMPLETE":  # a creation that failed: CloudFormation can only delete it
            self._delete()
            status = None
        exists = status not in {None, "REVIEW_IN_PROGRESS"}
        change_set = self._create_change_set(template, self._parameters(parameters, exists=exists), exists=exists)
        if change_set is not None:
            self._execute(change_set, exists=exists)
        return self.outputs()

    def outputs(self) -> dict[str, str]:
        """Return what the stack says of itself; nothing if it does not exist."""
        description = self._describe() or {}
        return {output["OutputKey"]: output["OutputValue"] for output in description.get("Outputs", [])}

    def _describe(self) -> dict[str, Any] | None:
        try:
            return dict(self.cloudformation.describe_stacks(StackName=self.name)["Stacks"][0])
        except ClientError as error:
            if "does not exist" in str(error):
                return None
            raise

    def _status(self) -> str | None:
        description = self._describe()
        return description["StackStatus"] if description else None

    @staticmethod
    def _parameters(given: Mapping[str, str | None], *, exists: bool) -> "list[ParameterTypeDef]":
        chosen: list[ParameterTypeDef] = []
        for key, value in given.items():
            if value is not None:
                chosen.append({"ParameterKey": key, "ParameterValue": value})
            elif exists:
                chosen.append({"ParameterKey": key, "UsePreviousValue": True})
        return chosen

    def _create_change_set(self, template: str, parameters: "list[ParameterTypeDef]", *, exists: bool) -> str | None:
        """Return the id of a change set that is ready, or None if nothing would change."""
        created = self.cloudformation.create_change_set(
            StackName=self.name,
            ChangeSetName=f"panelgate-{time.time_ns()}",
            ChangeSetType="UPDATE" if exists else "CREATE",
            TemplateBody=template,
            Parameters=parameters,
            Capabilities=CAPABILITIES,
        )["Id"]
        for _ in _until_deadline():
            change_set = self.cloudformation.describe_change_set(ChangeSetName=created, StackName=self.name)
            if change_set["Status"] == "CREATE_COMPLETE":
                return created
            if change_set["Status"] == "FAILED":
                reason = change_set.get("StatusReason", "")
                self.cloudformation.delete_change_set(ChangeSetName=created, StackName=self.name)
                if any(words in reason for words in NO_CHANGES):
                    return None
                raise Failure(f"{self.name}: {reason}")
        raise Failure(f"{self.name}: the change set was not ready in time.")

    def _execute(self, change_set: str, *, exists: bool) -> None:
        self.progress(f"{'Updating' if exists else 'Creating'} the stack {self.name} …")
        seen = {event["EventId"] for event in self._events()} if exists else set()
        self.cloudformation.execute_change_set(ChangeSetName=change_set, StackName=self.name)
        for _ in _until_deadline():
            status = self._status() or "DELETED"
            if status in {"CREATE_COMPLETE", "UPDATE_COMPLETE"}:
                return
            if not status.endswith("_IN_PROGRESS"):
                raise Failure(f"{self.name} ended as {status}:\n{self._reasons(seen)}")
        raise Failure(f"{self.name} was not ready in {STACK_DEADLINE_SECONDS} s; CloudFormation still works on it.")

    def _events(self) -> list[dict[str, Any]]:
        pages = self.cloudformation.get_paginator("describe_stack_events").paginate(StackName=self.name)
        return [dict(event) for page in pages for event in page["StackEvents"]]

    def _reasons(self, seen: set[str]) -> str:
        failed = [
            f"  {event['LogicalResourceId']} ({event['ResourceType']}): {event.get('ResourceStatusReason', '')}"
            for event in reversed(self._events())
            if event["EventId"] not in seen and event["ResourceStatus"].endswith("_FAILED")
        ]
        return "\n".join(failed) or "  CloudFormation gives no reason."

    def _delete(self) -> None:
        self.progress(f"Removing what is left of the failed stack {self.name} …")
        self.cloudformation.delete_stack(StackName=self.name)
        self.cloudformation.get_waiter("stack_delete_complete").wait(StackName=self.name)


def _until_deadline() -> Iterator[None]:
    """Poll: quickly at first, for the emulator, then at the pace of CloudFormation."""
    deadline = time.monotonic() + STACK_DEADLINE_SECONDS
    pause = 0.1
    while time.monotonic() < deadline:
        yield
        time.sleep(pause)
        pause = min(pause * 1.3, 5.0)


# --- The commands ---------------------------------------------------------------------------------------------------


@click.command("deploy", cls=Command, trace=Trace.OWN)
@click.option("--endpoint-url", metavar="URL", help="Another address of AWS, such as an emulator.")
@click.option("--domain", metavar="D", help="A host name of your own for the API.")
@click.option("--certificate", metavar="ARN", help="The certificate for it, in the same region.")
@pass_console
def deploy_command(console: Console, endpoint_url: str | None, domain: str | None, certificate: str | None) -> None:
    """Put the gateway into an AWS account, or bring it up to date."""
    if (domain is None) != (certificate is None):
        raise click.UsageError("--domain and --certificate belong together.")
    if endpoint_url:
        console.aws = Aws.real(endpoint_url)
    aws = console.aws
    deployed = deploy(
        aws,
        console.stage,
        console.progress,
        record=lambda _aws: console.begin_if_possible(),
        domain=domain,
        certificate=certificate,
    )
    console.note(package=deployed.package)
    if console.stage == LOCAL_STAGE and aws.endpoint:
        from cli.system import LocalSystem  # noqa: PLC0415 - the system itself uses this module

        LocalSystem().note_api(aws.endpoint, deployed.api_url)
    document = {"stage": console.stage, "api_url": deployed.api_url}
    if deployed.domain_url:
        document |= {"domain_url": deployed.domain_url, "domain_target": deployed.domain_target or ""}
    console.emit(document, "\n".join(f"{name:14} {value}" for name, value in document.items()))


@click.command("package", cls=Command, trace=Trace.NONE)
@pass_console
def package_command(console: Console) -> None:
    """Build what `deploy` uploads, and say where it is."""
    package = build(console.progress)
    console.emit(
        {"archive": str(package.archive), "template": str(package.template), "bill": str(package.bill)},
        f"archive   {package.archive}\ntemplate  {package.template}\nbill      {package.bill}",
    )
