"""The probe of the emulator itself: if it lost updates, no test of ours about concurrency would mean anything."""

import multiprocessing
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from typing import Any

import pytest
from botocore.exceptions import ClientError

from tests.conftest import aws_client
from tests.world import World

CALLERS = 8


def _race(endpoint: str, table: str, name: str) -> int:
    """Let eight threads try to be the first to put one item; return how many were."""
    client = aws_client("dynamodb", endpoint)

    def put(_: int) -> bool:
        try:
            client.put_item(
                TableName=table,
                Item={"pk": {"S": name}, "sk": {"S": "x"}},
                ConditionExpression="attribute_not_exists(pk)",
            )
        except ClientError as error:
            if error.response["Error"]["Code"] != "ConditionalCheckFailedException":
                raise
            return False
        return True

    with ThreadPoolExecutor(CALLERS) as threads:
        return sum(threads.map(put, range(CALLERS)))


@pytest.mark.parametrize("item", ["a", "b", "c"])
def test_of_32_callers_in_4_processes_one_puts_the_item(world: World, emulator: str, item: str) -> None:
    with ProcessPoolExecutor(4, multiprocessing.get_context("spawn")) as processes:
        table = world.parts.table.name
        winners = list(processes.map(_race, [emulator] * 4, [table] * 4, [item] * 4))
    assert sum(winners) == 1


@pytest.fixture
def secret(stage_name: str, secrets_manager: Any) -> str:
    name = f"panelgate/{stage_name}/probe"
    secrets_manager.create_secret(Name=name)
    return name


def _put(client: Any, name: str, value: str, token: str) -> Any:
    return client.put_secret_value(
        SecretId=name, SecretString=value, ClientRequestToken=token, VersionStages=["AWSPENDING"]
    )


def _labels(client: Any, name: str) -> dict[str, set[str]]:
    found = client.describe_secret(SecretId=name)["VersionIdsToStages"]
    return {version: set(labels) for version, labels in found.items() if labels}


def test_a_used_token_with_another_value_is_refused_and_with_the_same_one_ignored(
    secrets_manager: Any, secret: str
) -> None:
    first, second = "a" * 32, "b" * 32
    _put(secrets_manager, secret, "one", first)
    _put(secrets_manager, secret, "two", second)
    with pytest.raises(ClientError, match="ResourceExistsException"):
        _put(secrets_manager, secret, "other", first)
    _put(secrets_manager, secret, "one", first)
    assert _labels(secrets_manager, secret) == {first: {"AWSCURRENT"}, second: {"AWSPENDING"}}
    assert secrets_manager.get_secret_value(SecretId=secret, VersionId=first)["SecretString"] == "one"


def test_the_first_version_is_current_and_a_label_is_at_one_version(secrets_manager: Any, secret: str) -> None:
    for token in ("a" * 32, "b" * 32, "c" * 32):
        _put(secrets_manager, secret, token, token)
        if token == "a" * 32:
            assert _labels(secrets_manager, secret) == {token: {"AWSCURRENT", "AWSPENDING"}}
    assert _labels(secrets_manager, secret) == {"a" * 32: {"AWSCURRENT"}, "c" * 32: {"AWSPENDING"}}
