"""Runs MiniStack, the emulated AWS, made as strict as AWS where it is looser.

Started with the Python of `.venv-emulator`, which has MiniStack and nothing of Panelgate; settings come from the
environment (`LocalSystem` sets them). What it adds:

* a Lambda's process stands still from its answer to its next invocation, and is killed without notice, as AWS does;
* replies over Lambda's limit fail, requests over API Gateway's or Lambda's limit get 413;
* API Gateway gives up after 29 s, and shows nobody the text of a function's error;
* gateway responses and binary media types of an API's definition are applied;
* a version of a secret is never changed, a label is at one version, and a secret's first version is its current one;
* policies may say with which partitions of a table something may be done (`dynamodb:LeadingKeys`).
"""

import asyncio
import contextlib
import json
import re
import signal
from collections.abc import Awaitable, Callable, Iterator
from typing import TYPE_CHECKING, Any

from ministack import app
from ministack.core import iam_actions, lambda_runtime
from ministack.core.lambda_runtime import Worker
from ministack.services import apigateway_v1, dynamodb, secretsmanager

if TYPE_CHECKING:
    import subprocess

# https://docs.aws.amazon.com/lambda/latest/dg/gettingstarted-limits.html: 6 MB, and 100 bytes more for a reply.
MAX_EVENT_BYTES = 6_291_456
MAX_REPLY_BYTES = 6_291_556
# https://docs.aws.amazon.com/apigateway/latest/developerguide/api-gateway-execution-service-limits-table.html
MAX_REQUEST_BYTES = 10 * 1024 * 1024
INTEGRATION_TIMEOUT_SECONDS = 29.0
OK = 200

GatewayResult = Any
"""Either MiniStack's `(status, headers, body)`, or its error that a gateway response renders."""


class FunctionFailedError(Exception):
    """A function raised, ran out of time, or answered something that is no proxy response."""


def freeze_between_invocations() -> None:
    """Stop a Lambda's process at its answer: on AWS nothing runs on after it."""
    invoke = Worker.invoke
    drain_log = Worker._drain_stderr_bounded  # noqa: SLF001

    def invoke_thawed(self: Worker, *args: object, **kwargs: object) -> dict[str, Any]:
        _signal(self._proc, signal.SIGCONT)
        return _within_limit(invoke(self, *args, **kwargs))

    def freeze_and_drain_log(self: Worker, *args: float, **kwargs: float) -> str:
        # MiniStack collects the log right after it has read the answer: the first moment that is ours.
        _signal(self._proc, signal.SIGSTOP)
        return str(drain_log(self, *args, **kwargs))

    Worker.invoke = invoke_thawed
    Worker._drain_stderr_bounded = freeze_and_drain_log  # noqa: SLF001
    # A stopped process does not act on SIGTERM, and AWS gives a function no notice either.
    lambda_runtime._signal = lambda process: _signal(process, signal.SIGKILL)  # noqa: SLF001


def _signal(process: "subprocess.Popen[str] | None", number: signal.Signals) -> None:
    if process is not None:
        with contextlib.suppress(ProcessLookupError):
            process.send_signal(number)


def _within_limit(outcome: dict[str, Any]) -> dict[str, Any]:
    if outcome.get("status") != "ok":
        return outcome
    reply = json.dumps(outcome.get("result"), ensure_ascii=False).encode("utf-8", "replace")
    if len(reply) <= MAX_REPLY_BYTES:
        return outcome
    reason = f"Response payload size exceeded maximum allowed payload size ({MAX_REPLY_BYTES} bytes)."
    return {**outcome, "status": "error", "result": None, "error": reason}


def limit_requests() -> None:
    """Refuse what is too large for API Gateway."""
    execute = apigateway_v1._execute_in_scope  # noqa: SLF001

    async def execute_limited(
        request: dict[str, Any], api_id: str, stage_name: str, *args: object, **kwargs: object
    ) -> GatewayResult:
        _method, _path, _headers, body, *_ = args
        if not isinstance(body, bytes) or len(body) <= MAX_REQUEST_BYTES:
            return await execute(request, api_id, stage_name, *args, **kwargs)
        stages = apigateway_v1._stages_v1.get(api_id, {})  # noqa: SLF001
        request["stage"] = stages.get(stage_name, {})
        return _too_large()

    apigateway_v1._execute_in_scope = execute_limited  # noqa: SLF001


def _too_large() -> GatewayResult:
    return apigateway_v1._gw_error("REQUEST_TOO_LARGE", "Request Too Long")  # noqa: SLF001


def limit_integrations() -> None:
    """Give a function 29 s and 6 MB, and keep the reasons of its failures from the caller."""
    invoke = apigateway_v1._invoke_lambda_proxy_v1  # noqa: SLF001
    call = apigateway_v1._call_lambda_raw  # noqa: SLF001
    read_result = apigateway_v1._lambda_proxy_response  # noqa: SLF001

    async def call_limited(function: str, event: dict[str, Any], **scope: object) -> tuple[Any, str | None]:
        if len(json.dumps(event, ensure_ascii=False).encode("utf-8", "replace")) > MAX_EVENT_BYTES:
            raise OverflowError
        result: tuple[Any, str | None] = await call(function, event, **scope)
        return result

    def read_result_strictly(result: dict[str, Any]) -> tuple[Any, str | None]:
        if not result.get("throttle") and (result.get("error") or not _is_proxy_response(result.get("body"))):
            raise FunctionFailedError
        response: tuple[Any, str | None] = read_result(result)
        return response

    apigateway_v1._call_lambda_raw = call_limited  # noqa: SLF001
    apigateway_v1._lambda_proxy_response = read_result_strictly  # noqa: SLF001
    apigateway_v1._invoke_lambda_proxy_v1 = _answered_by_gateway(invoke)  # noqa: SLF001


def _is_proxy_response(body: object) -> bool:
    return isinstance(body, dict) and isinstance(body.get("statusCode"), int)


def _answered_by_gateway(invoke: Callable[..., Awaitable[GatewayResult]]) -> Callable[..., Awaitable[GatewayResult]]:
    async def answer(*args: object, **kwargs: object) -> GatewayResult:
        try:
            return await asyncio.wait_for(invoke(*args, **kwargs), INTEGRATION_TIMEOUT_SECONDS)
        except TimeoutError:
            return apigateway_v1._gw_error("INTEGRATION_TIMEOUT", "Endpoint request timed out")  # noqa: SLF001
        except OverflowError:
            return _too_large()
        except FunctionFailedError:
            return _BadGateway("DEFAULT_5XX", "Internal server error")

    return answer


class _BadGateway(apigateway_v1._GatewayError):  # type: ignore[misc]  # noqa: SLF001
    """A failed function: the gateway response of all 5xx, but always with status 502."""


def render_bad_gateway() -> None:
    """Answer 502 for a failed function, whatever its gateway response looks like."""
    render = apigateway_v1._gateway_error_response  # noqa: SLF001

    def render_with_status(error: object, request: dict[str, Any]) -> tuple[int, dict[str, str], bytes]:
        status, headers, body = render(error, request)
        return (502 if isinstance(error, _BadGateway) else status), headers, body

    apigateway_v1._gateway_error_response = render_with_status  # noqa: SLF001


def import_extensions() -> None:
    """Take gateway responses and binary media types out of an API's definition, where MiniStack leaves them unread."""
    import_api = apigateway_v1._import_rest_api  # noqa: SLF001

    def import_with_extensions(spec: dict[str, Any], base_data: dict[str, Any] | None = None) -> str:
        binary = spec.get("x-amazon-apigateway-binary-media-types", [])
        api_id = str(import_api(spec, {**(base_data or {}), "binaryMediaTypes": binary}))
        for kind, response in spec.get("x-amazon-apigateway-gateway-responses", {}).items():
            apigateway_v1._put_gateway_response(api_id, kind, response)  # noqa: SLF001
        return api_id

    apigateway_v1._import_rest_api = import_with_extensions  # noqa: SLF001


def keep_versions() -> None:
    """Treat the versions of a secret as PutSecretValue of AWS does.

    https://docs.aws.amazon.com/secretsmanager/latest/apireference/API_PutSecretValue.html: a token that was used for
    the same value changes nothing, one that was used for another value is refused.
    """
    create, put = secretsmanager._create_secret, secretsmanager._put_secret_value  # noqa: SLF001

    def create_without_version(data: dict[str, Any]) -> GatewayResult:
        reply = create(data)
        if reply[0] == OK and "SecretString" not in data and "SecretBinary" not in data:
            _, secret = secretsmanager._resolve(data["Name"])  # noqa: SLF001
            secret["Versions"].clear()
        return reply

    def put_once(data: dict[str, Any]) -> GatewayResult:
        _, secret = secretsmanager._resolve(data.get("SecretId"))  # noqa: SLF001
        token, labels = data.get("ClientRequestToken"), data.get("VersionStages")
        if not secret or secret.get("DeletedDate"):
            return put(data)
        known = secret["Versions"].get(token)
        if known is None:
            if labels and not secret["Versions"]:
                data = {**data, "VersionStages": ["AWSCURRENT"]}
            reply = put(data)
            version = json.loads(reply[2])["VersionId"]
            for label in labels or ():
                secretsmanager._remove_stage_everywhere(secret, label, version)  # noqa: SLF001
                secretsmanager._add_stage(secret, version, label)  # noqa: SLF001
            return reply
        if any(known.get(name) != data.get(name) for name in ("SecretString", "SecretBinary")):
            return secretsmanager.error_response_json(
                "ResourceExistsException",
                f"You can't use ClientRequestToken {token} because that value is already in use for another version.",
                400,
            )
        facts = {"ARN": secret["ARN"], "Name": secret["Name"], "VersionId": token, "VersionStages": known["Stages"]}
        return secretsmanager.json_response(facts)

    secretsmanager._create_secret = create_without_version  # noqa: SLF001
    secretsmanager._put_secret_value = put_once  # noqa: SLF001


def tell_leading_keys() -> None:
    """Tell IAM which partitions a call to DynamoDB is for; MiniStack leaves this condition key unset.

    https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/specifying-conditions.html: it is set by what names
    items (a Scan does not), and many-valued. AWS does not say whether a write of a transaction is judged by its own
    partition or by those of all writes. Here they are all told with each: a policy that allows this allows both.
    """
    tell = iam_actions.dynamodb_service_context

    def tell_all(body: bytes) -> dict[str, Any]:
        context: dict[str, Any] = tell(body)
        if context:  # of what is no JSON object nothing is told
            keys = sorted(set(_leading_keys(json.loads(body))))
            context |= {"dynamodb:LeadingKeys": keys} if keys else {}
        return context

    iam_actions.dynamodb_service_context = tell_all


def _leading_keys(request: dict[str, Any]) -> Iterator[str]:
    """Yield the partition keys that a request names."""
    for table, named in _named_items(request):
        yield from _key_value(named, _partition_key(table))
    if "TableName" in request:
        partition_key = _partition_key(request["TableName"], request.get("IndexName"))
        names = request.get("ExpressionAttributeNames", {})
        condition = request.get("KeyConditionExpression", "")
        for name, value in re.findall(r"([#\w]+)\s*=\s*(:\w+)", condition):
            if names.get(name, name) == partition_key:
                yield from _key_value(request["ExpressionAttributeValues"], value)
        for value in request.get("KeyConditions", {}).get(partition_key, {}).get("AttributeValueList", []):
            yield from value.values()


def _named_items(request: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield the tables, and the keys or the items there, that a request is for."""
    writes = [request, *(write for item in request.get("TransactItems", []) for write in item.values())]
    yield from (
        (write["TableName"], write.get("Key") or write["Item"]) for write in writes if {"Key", "Item"} & set(write)
    )
    for table, asked in request.get("RequestItems", {}).items():
        if isinstance(asked, dict):
            yield from ((table, key) for key in asked["Keys"])
        else:
            yield from ((table, one.get("Item") or one["Key"]) for row in asked for one in row.values())


def _partition_key(table: str, index: str | None = None) -> str:
    known = dynamodb._tables.get(table.rpartition("table/")[2]) or {}  # noqa: SLF001
    indexes = known.get("GlobalSecondaryIndexes", [])
    schemas = [one["KeySchema"] for one in indexes if one["IndexName"] == index] or [known.get("KeySchema", [])]
    return next((str(key["AttributeName"]) for key in schemas[0] if key["KeyType"] == "HASH"), "")


def _key_value(attributes: dict[str, Any], name: str) -> list[str]:
    return [str(value) for value in attributes.get(name, {}).values()]


def main() -> None:
    """Run until SIGTERM or SIGINT; then save the state and leave no worker behind."""
    freeze_between_invocations()
    limit_requests()
    limit_integrations()
    render_bad_gateway()
    import_extensions()
    keep_versions()
    tell_leading_keys()
    try:
        app.main()
    finally:
        lambda_runtime.reset()


if __name__ == "__main__":
    main()
