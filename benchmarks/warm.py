"""Processor time of one warm call in this process, beside one bare UpdateItem of boto3 in the same minute."""

import statistics
import time
from collections.abc import Callable
from itertools import count

from benchmarks.stage import Container, Stage
from benchmarks.table import show

ROUNDS, CALLS = 9, 20
BARE = "boto3's update_item, bare"


def run(stage: Stage) -> None:
    """Measure in turns, so that all see the same machine; print the least and the median of the rounds."""
    cases = _cases(stage, stage.container())
    for call in cases.values():
        _milliseconds(call)
    rounds = [{name: _milliseconds(call) for name, call in cases.items()} for _ in range(ROUNDS)]
    taken = {name: [measured[name] for measured in rounds] for name in cases}
    rows = [
        (
            name,
            min(times),
            statistics.median(times),
            statistics.median(one / bare for one, bare in zip(times, taken[BARE], strict=True)),
        )
        for name, times in taken.items()
    ]
    show(
        f"Processor time of one warm call, ms ({ROUNDS} rounds of {CALLS})", ("call", "least", "median", "× bare"), rows
    )


def _milliseconds(call: Callable[[], object]) -> float:
    before = time.process_time()
    for _ in range(CALLS):
        call()
    return (time.process_time() - before) * 1000 / CALLS


def _cases(stage: Stage, container: Container) -> dict[str, Callable[[], object]]:
    still = stage.container()
    still.time.stop()  # what was read stays fresh
    number = still.call("add", **stage.order())["order"]
    still.call("status", order=number)
    return {
        BARE: _bare(stage),
        "balance": lambda: container.call("balance"),
        "status, from the store": lambda: still.call("status", order=number),
        "add": lambda: container.call("add", **stage.order()),
        "services": lambda: container.call("services"),
    }


def _bare(stage: Stage) -> Callable[[], object]:
    """Return one unconditional write that returns a small item, as the least that any call of the gateway does."""
    dynamodb = stage.client("dynamodb", [])
    numbers = count()

    def update() -> object:
        return dynamodb.update_item(
            TableName="panelgate-local",
            Key={"pk": {"S": "BENCHMARK"}, "sk": {"S": "BENCHMARK"}},
            UpdateExpression="SET #n = :n",
            ExpressionAttributeNames={"#n": "n"},
            ExpressionAttributeValues={":n": {"N": str(next(numbers))}},
            ReturnValues="ALL_NEW",
        )

    return update
