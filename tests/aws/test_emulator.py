"""The probe of the emulator itself: if it lost updates, no test of ours about concurrency would mean anything."""

import multiprocessing
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor

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
