"""Puts both stacks into an AWS account, real or emulated, by the same road."""

import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
from botocore.exceptions import ClientError

from cli.console import Aws, Failure
from cli.packaging import API_STAGE, ROOT, Package, Progress, build

if TYPE_CHECKING:
    from types_boto3_cloudformation import CloudFormationClient
    from types_boto3_cloudformation.type_defs import ParameterTypeDef

CAPABILITIES: list[Any] = ["CAPABILITY_IAM", "CAPABILITY_AUTO_EXPAND"]
NO_CHANGES = ("didn't contain changes", "No updates are to be performed")
STACK_DEADLINE_SECONDS = 900
HEALTH_DEADLINE_SECONDS = 90

Record = Callable[[Aws], bool]


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
