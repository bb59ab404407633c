"""Each Lambda's role allows what its code does, to the items that it does it with, and nothing else.

On an emulated AWS that checks IAM, under the policies as they are deployed. What a Lambda does is tried by its real
code; what it may not do, call by call.
"""

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from fnmatch import fnmatchcase
from functools import partial
from itertools import product
from typing import Any

import boto3
import pytest
from botocore.exceptions import ClientError

from chalicelib.api.cors import preflight
from chalicelib.aws.rotations import Rotation, Rotations, Step
from chalicelib.clock import HOUR, MINUTE, SECOND
from chalicelib.jobs import settle_orders, sync_catalogs
from chalicelib.keys import new_client_key
from chalicelib.model import Account
from chalicelib.testmode import Offer
from chalicelib.wiring import Parts
from sandbox.faults import ActiveFault
from tests.api.http import incoming, v2, v3
from tests.conftest import ROOT, aws_client, emulated_aws, stages, table_schema
from tests.faults import vanished
from tests.market import Market
from tests.scenarios import SCENARIOS, Scenario, add, cancel, refill, settle, status, sweep, unknown
from tests.stall import Punctual, Stall
from tests.world import LINK, REGION

FUNCTIONS = ("api_handler", "settle_orders", "sweep_orders", "sync_catalogs")
DENIED = {"AccessDenied", "AccessDeniedException"}
ACCOUNT_ID = "000000000000"


@pytest.fixture(scope="module")
def strict(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Return the URL of an emulated AWS that checks IAM."""
    with emulated_aws(tmp_path_factory.mktemp("strict"), AUTH="true") as url:
        yield url


def resolved(value: Any, stage: str) -> Any:
    """Return a policy as CloudFormation makes it for a stage."""
    match value:
        case {"Fn::Sub": str(text)}:
            facts = {"AWS::Partition": "aws", "AWS::Region": REGION, "AWS::AccountId": ACCOUNT_ID, "Stage": stage}
            for name, fact in facts.items():
                text = text.replace(f"${{{name}}}", fact)
            assert "${" not in text
            return text
        case dict():
            return {name: resolved(inner, stage) for name, inner in value.items()}
        case list():
            return [resolved(inner, stage) for inner in value]
        case _:
            return value


def policy(function: str, stage: str) -> dict[str, Any]:
    document: dict[str, Any] = json.loads((ROOT / f".chalice/policies/{function}.json").read_text())
    return dict(resolved(document, stage))


@dataclass
class Role:
    """The role of a Lambda, and what was done and denied under it: action, table or index or secret, partition."""

    function: str
    stage: str
    session: Any
    endpoint: str
    uses: set[tuple[str, str, str]] = field(default_factory=set)
    denials: list[str] = field(default_factory=list)

    def client(self, service: str) -> Any:
        return self.session.client(service, endpoint_url=self.endpoint)

    def _watched(self, service: str) -> Any:
        client = self.client(service)

        def note(params: dict[str, Any], model: Any, **_: Any) -> None:
            self.uses |= set(_uses(model.name, params))

        def check(parsed: dict[str, Any], model: Any, **_: Any) -> None:
            if parsed.get("Error", {}).get("Code") in DENIED:
                self.denials.append(f"{model.name}: {parsed['Error'].get('Message', parsed)}")

        client.meta.events.register(f"provide-client-params.{client.meta.service_model.service_id.hyphenize()}", note)
        client.meta.events.register(f"after-call.{client.meta.service_model.service_id.hyphenize()}", check)
        return client

    def parts(self, market: Market) -> Parts:
        """Return a container that acts under this role."""
        sender = Punctual(market.parts.sender, market.parts.clock)
        return market.twin(self._watched("dynamodb"), self._watched("secretsmanager"), sender)


_TRANSACTED = {"Put": "PutItem", "Update": "UpdateItem", "Delete": "DeleteItem", "ConditionCheck": "ConditionCheckItem"}


def _uses(operation: str, params: dict[str, Any]) -> Iterator[tuple[str, str, str]]:
    if "SecretId" in params:
        yield operation, params["SecretId"], ""
    elif operation == "TransactWriteItems":
        writes = [(kind, write) for item in params["TransactItems"] for kind, write in item.items()]
        partitions = {(write.get("Key") or write["Item"])["pk"]["S"] for _, write in writes}
        for (kind, write), partition in product(writes, partitions):  # all are told with each: `cli.emulator`
            yield _TRANSACTED[kind], write["TableName"], partition
    elif "RequestItems" in params:
        [(table, asked)] = params["RequestItems"].items()
        keys = (
            asked["Keys"] if isinstance(asked, dict) else [w.get("Item") or w["Key"] for r in asked for w in r.values()]
        )
        yield from ((operation, table, key["pk"]["S"]) for key in keys)
    elif "IndexName" in params:
        yield operation, f"{params['TableName']}/index/{params['IndexName']}", ""
    elif operation == "Query":
        yield operation, params["TableName"], params["ExpressionAttributeValues"][":pk"]["S"]
    else:
        yield operation, params["TableName"], (params.get("Key") or params["Item"])["pk"]["S"]


@pytest.fixture
def roles(strict: str) -> Callable[[str], dict[str, Role]]:
    """Return what makes the roles of a stage."""
    iam, sts = aws_client("iam", strict), aws_client("sts", strict)

    def make(stage: str) -> dict[str, Role]:
        made = {}
        for function in FUNCTIONS:
            name = f"{stage}-{function}"
            trust = {"Effect": "Allow", "Principal": {"AWS": "*"}, "Action": "sts:AssumeRole"}
            document = {"Version": "2012-10-17", "Statement": [trust]}
            role = iam.create_role(RoleName=name, AssumeRolePolicyDocument=json.dumps(document))["Role"]["Arn"]
            iam.put_role_policy(RoleName=name, PolicyName="it", PolicyDocument=json.dumps(policy(function, stage)))
            given = sts.assume_role(RoleArn=role, RoleSessionName="test")["Credentials"]
            session: Any = boto3.Session(
                aws_access_key_id=given["AccessKeyId"],
                aws_secret_access_key=given["SecretAccessKey"],
                aws_session_token=given["SessionToken"],
                region_name=REGION,
            )
            made[function] = Role(function, stage, session, strict)
        return made

    return make


@pytest.fixture
def new_table(strict: str, stage_name: str) -> Iterator[Callable[[], str]]:
    """Return what makes a stage with an empty table."""
    with stages(stage_name, aws_client("dynamodb", strict)) as new:
        yield new


ACTS: dict[Any, str] = {
    add: "api_handler",
    status: "api_handler",
    refill: "api_handler",
    cancel: "api_handler",
    settle: "settle_orders",
    sweep: "sweep_orders",
}


@dataclass
class Tour:
    """Goes through what a Lambda does, on stages of its own."""

    strict: str
    new_table: Callable[[], str]
    roles: Callable[[str], dict[str, Role]]
    function: str
    seen: list[Role] = field(default_factory=list)

    @property
    def operator(self) -> tuple[Any, Any]:
        """The clients of one who may do everything."""
        return aws_client("dynamodb", self.strict), aws_client("secretsmanager", self.strict)

    def role(self, stage: str) -> Role:
        self.seen.append(self.roles(stage)[self.function])
        return self.seen[-1]

    def scenario(self, scenario: Scenario) -> None:
        """Let the Lambda act in a scene, and a schedule again when some time has passed."""
        stage = self.new_table()
        stall = Stall.new(stage, *self.operator, scenario.slug)
        scenario.prepare(stall)
        role = self.role(stage)
        for _ in range(3 if scenario.act is settle else 1):
            scenario.act(stall, role.parts(stall.market))
            stall.pass_time(MINUTE)

    def market(self, *slugs: str) -> tuple[Market, Parts]:
        """Return a stage, with a tenant that has an account of its own at a panel, and a container under the role."""
        slugs = slugs or ("smosale", "smmrich")
        stage = self.new_table()
        market = Market.new(stage, *self.operator, slugs=slugs)
        market.give_own_key(slugs[-1])
        return market, self.role(stage).parts(market)


def _reject_key(market: Market, operator: Parts) -> None:
    """Let the panel reject the current key, and have a pending one that it takes."""
    account, panel = Account("smosale"), market.panel("smosale")
    operator.vault.store_pending(account, "a-fresh-key-of-smosale", token="2" * 32)
    rotations = Rotations(operator.table)
    rotations.advance(rotations.begin(Rotation(account=account, version="2" * 32)), Step.PROVED)
    panel.keys[:] = ["a-fresh-key-of-smosale"]


def tour_api_handler(tour: Tour) -> None:
    market, parts = tour.market()
    origin = "https://page.example"
    market.registry.change_tenant(
        "acme", partial(replace, origins=frozenset({origin}), dedupe=60, daily_spend=900 * SECOND)
    )
    operator, market.parts = market.parts, parts
    order = {"action": "add", "link": LINK, "quantity": 1000}
    first, second = (1000 + market.registry.provider(slug).number for slug in ("smosale", "smmrich"))
    for slug, service in (("smosale", first), ("smmrich", second)):
        bought = v3(market, {**order, "service": service}).json["order"]
        assert v3(market, {**order, "service": service}).headers["Idempotent-Replayed"] == "true"
        market.network.unreachable = {slug}
        freed = v3(market, {**order, "service": service, "quantity": 999}, headers={"idempotency-key": "k"})
        assert freed.json["code"] == "service_unavailable"
        market.network.unreachable = set()
        market.panel(slug).faults.append(ActiveFault(fault="empty", action="add", count=1))
        assert v3(market, {**order, "service": service, "quantity": 998}).status == 202
        market.time.at += 20 * SECOND
        assert v3(market, {"action": "status", "order": bought}).json["stale"] is False
    for action in ("balance", "services", "orders"):
        assert v3(market, {"action": action}).status == 200
    assert v3(market, {"action": "orders", "idempotency_key": "k"}).json["orders"] == []
    assert "order" in v2(market, {**order, "service": first, "quantity": 997}).json
    asked = {"action": "token", "actions": ["add", "orders"], "ttl": 600, "origin": origin}
    _, token = (v3(market, asked).json["token"] for _ in range(2))
    page = {"authorization": f"Bearer {token}", "origin": origin}
    assert v3(market, {**order, "service": first, "quantity": 996}, headers=page).status == 200
    assert len(v3(market, {"action": "orders"}, headers=page).json["orders"]) == 1
    assert preflight(incoming(market, method="OPTIONS", headers={"origin": origin}), parts.gateway).status_code == 204
    tester = {"authorization": f"Bearer {market.clients.create('acme', test=True).key}"}
    tried = v3(market, {**order, "service": 1000 * Offer.DELIVERED}, headers=tester).json["order"]
    for action in ("status", "cancel", "refill"):
        assert v3(market, {"action": action, "order": tried}, headers=tester).status in (200, 422)
    stranger = {"authorization": f"Bearer {new_client_key('nobody')}"}
    assert v3(market, {"action": "balance"}, headers=stranger).status == 401
    _reject_key(market, operator)
    assert v3(market, {**order, "service": first, "quantity": 995}).status == 200


def tour_sync_catalogs(tour: Tour) -> None:
    market, parts = tour.market("smosale", "smmafrica")
    services = market.panel("smosale").services
    del services[max(services)]
    assert sync_catalogs(parts) == {"done": 2, "failed": 0}
    _reject_key(market, market.parts)
    market.time.at += HOUR
    assert sync_catalogs(tour.seen[-1].parts(market)) == {"done": 2, "failed": 0}


def tour_settle_orders(tour: Tour) -> None:
    market, _ = tour.market()
    for provider in market.registry.providers():
        market.registry.change_provider(provider.slug, partial(replace, exclusive_key=True))

    def buy() -> None:
        for slug in ("smosale", "smmrich"):
            service = 1000 + market.registry.provider(slug).number
            order = {"action": "add", "link": f"{LINK}/{market.time.at}", "quantity": 1000, "service": service}
            assert v3(market, order).status == 200

    def settle_after(seconds: int) -> None:
        market.time.at += seconds * SECOND
        assert settle_orders(tour.seen[-1].parts(market))["failed"] == 0

    buy()
    settle_after(60)
    buy()
    settle_after(8 * 24 * 3600)
    buy()
    settle_after(60)
    buy()
    tester = {"authorization": f"Bearer {market.clients.create('acme', test=True).key}"}
    order = {"action": "add", "link": LINK, "quantity": 1000}
    for offer in (Offer.DELIVERED, Offer.LOST, Offer.LOST_AND_BOUGHT):
        assert v3(market, {**order, "service": 1000 * offer}, headers=tester).status in (200, 202)
    _reject_key(market, market.parts)
    settle_after(60)


TOURS: dict[str, Callable[[Tour], None]] = {
    "api_handler": tour_api_handler,
    "settle_orders": tour_settle_orders,
    "sweep_orders": lambda _tour: None,  # its scenario is all that it does
    "sync_catalogs": tour_sync_catalogs,
}


@pytest.mark.parametrize("function", FUNCTIONS)
def test_a_lambda_may_do_all_that_it_does_and_does_all_that_it_may(
    strict: str,
    new_table: Callable[[], str],
    roles: Callable[[str], dict[str, Role]],
    function: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("chalicelib.inquiry._MARKS", 1)  # who needs an older one reads it by its key
    tour = Tour(strict, new_table, roles, function)
    for scenario in (*SCENARIOS, Scenario("settle_searches", "", unknown(vanished), settle)):
        if ACTS.get(scenario.act) == function:
            tour.scenario(scenario)
    TOURS[function](tour)

    assert [denial for role in tour.seen for denial in role.denials] == []
    used = {
        (action, thing.replace(role.stage, "S"), partition)
        for role in tour.seen
        for action, thing, partition in role.uses
    }
    unused = [grant for grant in _grants(function) if not any(_is_use(use, grant) for use in used)]
    assert unused == []


def _grants(function: str) -> Iterator[tuple[str, str, str]]:
    """Yield what a policy allows, one by one: action, name of the table, index or secret, partition."""
    for statement in policy(function, "S")["Statement"]:
        assert statement["Effect"] == "Allow"
        resources = statement["Resource"] if isinstance(statement["Resource"], list) else [statement["Resource"]]
        conditions = statement.get("Condition", {}).get("ForAllValues:StringLike", {})
        for action, resource in product(statement["Action"], resources):
            service, name = action.split(":")
            if service != "logs":
                thing = resource.split(":", 5)[5].removeprefix("table/").removeprefix("secret:")
                yield from ((name, thing, one) for one in conditions.get("dynamodb:LeadingKeys", [""]))


def _is_use(use: tuple[str, str, str], grant: tuple[str, str, str]) -> bool:
    return all(fnmatchcase(one, pattern) for one, pattern in zip(use, grant, strict=True))


# -- and nothing else ------------------------------------------------------------------------------------------------

PARTITIONS = (
    "T#acme",
    "T#test:acme",
    "P#smosale",
    "P#smosale#acme",
    "P#test:panel",
    "KEYS#smosale",
    "KEYS#smosale#acme",
    "ADDRESS#203.0.113.7",
    "ORIGIN#https://page.example",
    "PROVIDERS",
    "TENANTS",
    "AUDIT",
    "",
)
ORDERS_AND_PROVIDERS = {"T#", "P#"}
# What each Lambda may do with which items, by the beginnings of their partitions; "in a transaction" are deletions that
# are no calls of their own.
MAY: dict[str, dict[str, set[str]]] = {
    "api_handler": {
        "GetItem": {*ORDERS_AND_PROVIDERS, "KEYS#"},
        "BatchGetItem": ORDERS_AND_PROVIDERS,
        "Query": {"PROVIDERS", "ORIGIN#"},
        "PutItem": {*ORDERS_AND_PROVIDERS, "ADDRESS#"},
        "UpdateItem": {*ORDERS_AND_PROVIDERS, "KEYS#"},
        "Delete in a transaction": ORDERS_AND_PROVIDERS,
    },
    "settle_orders": {
        "GetItem": {"P#", "KEYS#"},
        "BatchGetItem": {"T#"},
        "Query": {"PROVIDERS", "P#"},
        "PutItem": ORDERS_AND_PROVIDERS,
        "UpdateItem": {*ORDERS_AND_PROVIDERS, "KEYS#"},
        "Delete in a transaction": ORDERS_AND_PROVIDERS,
        "BatchWriteItem": {"P#"},
    },
    "sweep_orders": {"BatchGetItem": {"T#"}, "Query": {"PROVIDERS", "P#"}, "UpdateItem": {"T#"}},
    "sync_catalogs": {
        "GetItem": {"P#", "KEYS#"},
        "Query": {"PROVIDERS", "P#"},
        "BatchWriteItem": {"P#"},
        "UpdateItem": {"P#", "KEYS#"},
    },
}
INDEXES = {"api_handler": {"orders-by-time", "pages-orders"}, "settle_orders": {"open-orders"}}
# Nothing is written by what is allowed, either.
NEVER = {"ConditionExpression": "attribute_exists(nothing)"}


def _call(client: Any, action: str, table: str, partition: str) -> Callable[[], object]:
    """Return a call for an item, as IAM names it; every write of it fails by its condition, if it comes so far."""
    item = {"pk": {"S": partition or "-"}, "sk": {"S": "probe"}}
    named = {"TableName": table, "Key": item}
    update = {"UpdateExpression": "SET touched = :now", "ExpressionAttributeValues": {":now": {"N": "1"}}}
    query = {"KeyConditionExpression": "#p = :pk AND sk > :sk", "ExpressionAttributeNames": {"#p": "pk"}}
    values = {":pk": item["pk"], ":sk": item["sk"]}

    def transact(kind: str, **write: Any) -> Callable[[], object]:
        return lambda: client.transact_write_items(TransactItems=[{kind: {"TableName": table, **write, **NEVER}}])

    return {
        "GetItem": lambda: client.get_item(**named),
        "BatchGetItem": lambda: client.batch_get_item(RequestItems={table: {"Keys": [item]}}),
        "Query": lambda: client.query(TableName=table, ExpressionAttributeValues=values, **query),
        "Scan": lambda: client.scan(TableName=table),
        "PutItem": lambda: client.put_item(TableName=table, Item=item, **NEVER),
        "UpdateItem": lambda: client.update_item(**named, **update, **NEVER),
        "DeleteItem": lambda: client.delete_item(**named, **NEVER),
        "BatchWriteItem": lambda: client.batch_write_item(RequestItems={table: [{"DeleteRequest": {"Key": item}}]}),
        "Put in a transaction": transact("Put", Item=item),
        "Update in a transaction": transact("Update", Key=item, **update),
        "Delete in a transaction": transact("Delete", Key=item),
        "ConditionCheck in a transaction": transact("ConditionCheck", Key=item),
    }[action]


ACTIONS = (
    *("GetItem", "BatchGetItem", "Query", "Scan", "PutItem", "UpdateItem", "DeleteItem", "BatchWriteItem"),
    *(f"{kind} in a transaction" for kind in ("Put", "Update", "Delete", "ConditionCheck")),
)


def _may(function: str, action: str, partition: str) -> bool:
    kind = action.removesuffix(" in a transaction")
    allowed = MAY[function].get(action, MAY[function].get(f"{kind}Item", set())) if kind != "DeleteItem" else set()
    return any(partition.startswith(one) for one in allowed)


def _is_denied(call: Callable[..., object], **request: Any) -> bool:
    """Say whether IAM refuses a call; whatever else becomes of it, it came further than that."""
    try:
        call(**request)
    except ClientError as error:
        return error.response["Error"]["Code"] in DENIED
    return False


@pytest.fixture
def stage(new_table: Callable[[], str]) -> str:
    return new_table()


@pytest.mark.parametrize("function", FUNCTIONS)
def test_of_all_calls_for_all_items_a_lambda_may_make_its_own(
    stage: str, roles: Callable[[str], dict[str, Role]], function: str
) -> None:
    client = roles(stage)[function].client("dynamodb")
    for action, partition in product(ACTIONS, PARTITIONS):
        denied = _is_denied(_call(client, action, f"panelgate-{stage}", partition))
        assert denied is not _may(function, action, partition), f"{action} {partition}"


@pytest.mark.parametrize("function", FUNCTIONS)
def test_one_foreign_item_among_its_own_is_too_many(
    stage: str, roles: Callable[[str], dict[str, Role]], function: str
) -> None:
    """Neither a batch nor a transaction takes along what alone would be refused."""
    client, table = roles(stage)[function].client("dynamodb"), f"panelgate-{stage}"
    keys = [{"pk": {"S": pk}, "sk": {"S": "probe"}} for pk in ("T#acme", "P#smosale", "AUDIT", "TENANTS")]
    puts = [{"Put": {"TableName": table, "Item": key, **NEVER}} for key in keys]
    for foreign in (2, 3):
        for own in (0, 1):
            assert _is_denied(client.transact_write_items, TransactItems=[puts[own], puts[foreign]])
            both = [keys[own], keys[foreign]]
            assert _is_denied(client.batch_get_item, RequestItems={table: {"Keys": both}})
            requests = [{"PutRequest": {"Item": key}} for key in both]
            assert _is_denied(client.batch_write_item, RequestItems={table: requests})


@pytest.mark.parametrize("function", FUNCTIONS)
def test_a_lambda_reads_its_own_indexes_and_does_nothing_to_tables(
    stage: str, new_table: Callable[[], str], roles: Callable[[str], dict[str, Role]], function: str
) -> None:
    client, table, other = roles(stage)[function].client("dynamodb"), f"panelgate-{stage}", f"panelgate-{new_table()}"
    for index in table_schema()["GlobalSecondaryIndexes"]:
        name, key = index["IndexName"], index["KeySchema"][0]["AttributeName"]
        query = {
            "IndexName": name,
            "KeyConditionExpression": "#k = :v",
            "ExpressionAttributeNames": {"#k": key},
            "ExpressionAttributeValues": {":v": {"S": "placed#smosale"}},
        }
        assert _is_denied(client.query, TableName=table, **query) is (name not in INDEXES.get(function, ()))
        assert _is_denied(client.query, TableName=other, **query)
        assert _is_denied(client.scan, TableName=table, IndexName=name)
    for action, partition in product(ACTIONS, ("T#acme", "P#smosale", "PROVIDERS")):
        assert _is_denied(_call(client, action, other, partition)), f"{action} {partition} of another stage"
    deletion = f"DELETE FROM \"{table}\" WHERE pk = 'T#acme' AND sk = 'ORDER#1'"  # noqa: S608 - of names of ours
    for call, request in (
        (client.delete_table, {"TableName": table}),
        (client.describe_table, {"TableName": table}),
        (client.update_table, {"TableName": table, "DeletionProtectionEnabled": False}),
        (client.create_backup, {"TableName": table, "BackupName": "mine"}),
        (client.execute_statement, {"Statement": deletion}),
        (client.list_tables, {}),
    ):
        assert _is_denied(call, **request)


@pytest.mark.parametrize("function", FUNCTIONS)
def test_a_lambda_that_calls_panels_reads_their_keys_and_no_other_secret(
    strict: str, stage: str, roles: Callable[[str], dict[str, Role]], function: str
) -> None:
    operator, client = aws_client("secretsmanager", strict), roles(stage)[function].client("secretsmanager")
    own = {f"panelgate/{stage}/providers/smosale": function != "sweep_orders"}
    own |= {f"panelgate/{stage}/tenants/acme/providers/smosale": function in ("api_handler", "settle_orders")}
    foreign = (
        f"panelgate/{stage}-other/providers/smosale",
        f"panelgate/{stage}-other/tenants/acme/providers/smosale",
        f"panelgate/{stage}/others/smosale",
        f"{stage}/database",
    )
    for name in (*own, *foreign):
        operator.create_secret(Name=name, SecretString="it")
        assert _is_denied(client.get_secret_value, SecretId=name) is not own.get(name, False), name
        for call, request in (
            (client.put_secret_value, {"SecretId": name, "SecretString": "x"}),
            (client.update_secret, {"SecretId": name, "SecretString": "x"}),
            (client.update_secret_version_stage, {"SecretId": name, "VersionStage": "AWSCURRENT"}),
            (client.delete_secret, {"SecretId": name}),
            (client.create_secret, {"Name": f"{name}/more", "SecretString": "x"}),
        ):
            assert _is_denied(call, **request), name
    assert _is_denied(client.list_secrets)
