"""The policies reached the roles, and the deployed Lambdas can work under them.

What each of them allows is shown in `tests/aws/test_policies.py`.
"""

from typing import Any

import boto3
import pytest
from botocore.exceptions import ClientError

from cli.system import LocalSystem
from tests.deployed.conftest import Deployment
from tests.world import REGION

pytestmark = [pytest.mark.deployed, pytest.mark.usefixtures("local")]


def _role_client(deployment: Deployment, function: str, service: str) -> Any:
    """Return a client that acts with the role of a Lambda."""
    client = deployment.aws.session.client
    functions = client("lambda", endpoint_url=deployment.aws.endpoint).list_functions()["Functions"]
    [found] = [item for item in functions if function in item["FunctionName"].replace("_", "").lower()]
    sts = client("sts", endpoint_url=deployment.aws.endpoint)
    given = sts.assume_role(RoleArn=found["Role"], RoleSessionName="test")["Credentials"]
    session: Any = boto3.Session(
        aws_access_key_id=given["AccessKeyId"],
        aws_secret_access_key=given["SecretAccessKey"],
        aws_session_token=given["SessionToken"],
        region_name=REGION,
    )
    return session.client(service, endpoint_url=deployment.aws.endpoint)


def _denied(call: Any, **request: Any) -> bool:
    try:
        call(**request)
    except ClientError as error:
        return error.response["Error"]["Code"] in {"AccessDenied", "AccessDeniedException"}
    return False


KEY = {"pk": {"S": "T#nobody"}, "sk": {"S": "TENANT"}}


@pytest.mark.parametrize("function", ["apihandler", "synccatalogs", "sweeporders", "settleorders"])
def test_nobody_scans_deletes_the_table_or_reads_other_secrets(deployment: Deployment, function: str) -> None:
    dynamodb = _role_client(deployment, function, "dynamodb")
    secrets_manager = _role_client(deployment, function, "secretsmanager")
    assert _denied(dynamodb.scan, TableName="panelgate-local")
    assert _denied(dynamodb.delete_table, TableName="panelgate-local")
    assert _denied(dynamodb.get_item, TableName="panelgate-other", Key=KEY)
    for partition in ("AUDIT", "TENANTS"):
        assert _denied(dynamodb.get_item, TableName="panelgate-local", Key={**KEY, "pk": {"S": partition}})
    assert _denied(secrets_manager.get_secret_value, SecretId="somebody/elses")
    assert _denied(secrets_manager.put_secret_value, SecretId="panelgate/local/providers/smosale", SecretString="x")
    assert _denied(secrets_manager.delete_secret, SecretId="panelgate/local/providers/smosale")


def test_who_calls_panels_may_read_their_keys_and_the_sweeper_may_not(deployment: Deployment) -> None:
    for function in ("apihandler", "synccatalogs", "sweeporders", "settleorders"):
        secrets_manager = _role_client(deployment, function, "secretsmanager")
        denied = _denied(secrets_manager.get_secret_value, SecretId="panelgate/local/providers/smosale")
        assert denied is (function == "sweeporders")


def test_who_calls_panels_for_a_tenant_may_read_its_own_keys_and_nobody_else(deployment: Deployment) -> None:
    name = "panelgate/local/tenants/somebody/providers/smosale"
    for function in ("apihandler", "synccatalogs", "sweeporders", "settleorders"):
        secrets_manager = _role_client(deployment, function, "secretsmanager")
        denied = _denied(secrets_manager.get_secret_value, SecretId=name)
        assert denied is (function in {"synccatalogs", "sweeporders"})
        assert _denied(secrets_manager.put_secret_value, SecretId=name, SecretString="x")


def test_the_sweeper_may_not_delete(deployment: Deployment) -> None:
    dynamodb = _role_client(deployment, "sweeporders", "dynamodb")
    assert _denied(dynamodb.delete_item, TableName="panelgate-local", Key=KEY)


@pytest.mark.parametrize("job", ["sync_catalogs", "sweep_orders", "settle_orders"])
def test_the_schedules_run_with_their_roles(deployment: Deployment, local: LocalSystem, job: str) -> None:
    assert deployment.run_job(job)["failed"] == 0, local.last_lines("emulator")
