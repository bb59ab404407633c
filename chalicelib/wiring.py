"""The composition root: settings and AWS clients become the gateway, once per container."""

import os
import ssl
import time
from dataclasses import dataclass, replace
from functools import cache
from typing import TYPE_CHECKING

import boto3
from botocore.config import Config

from chalicelib import testmode
from chalicelib.aws.accounts import DynamoAccounts
from chalicelib.aws.catalog import DynamoCatalog
from chalicelib.aws.directory import DynamoDirectory
from chalicelib.aws.guesses import DynamoGuesses
from chalicelib.aws.orders import DynamoOrders
from chalicelib.aws.pace import DynamoPace
from chalicelib.aws.refills import DynamoRefills
from chalicelib.aws.rotations import Rotations
from chalicelib.aws.table import Table
from chalicelib.aws.tokens import DynamoTokens
from chalicelib.aws.vault import SecretsVault
from chalicelib.aws.wallet import DynamoWallet
from chalicelib.batching import Batcher
from chalicelib.calling import Caller, OneKeyVault
from chalicelib.clock import Clock
from chalicelib.following import Following
from chalicelib.gateway import Gateway
from chalicelib.ports import Sender as SenderPort
from chalicelib.settings import VERSION, Settings
from chalicelib.settlement import Settlement
from chalicelib.tracking import Tracking
from chalicelib.upstream import Sender

if TYPE_CHECKING:
    from types_boto3_dynamodb import DynamoDBClient
    from types_boto3_secretsmanager import SecretsManagerClient

# Retries belong to `aws.table` alone (reliability.md 4.5). A try that begins at the end of `purchase.RECORD_TIME` must
# be over before API Gateway's 29 s are; Secrets Manager may take up to a second on its first answer.
_DYNAMODB = Config(
    connect_timeout=0.5,
    read_timeout=1.5,
    retries={"mode": "standard", "total_max_attempts": 1},
    max_pool_connections=50,  # a batch over several providers works in as many threads
)
_SECRETS = Config(connect_timeout=0.5, read_timeout=2, retries={"mode": "standard", "total_max_attempts": 2})

SYSTEM_CLOCK = Clock(now=lambda: time.time_ns() // 1000, sleep=time.sleep)


@dataclass(frozen=True, slots=True)
class Parts:
    """Everything of one stage, wired."""

    settings: Settings
    clock: Clock
    table: Table
    directory: DynamoDirectory
    orders: DynamoOrders
    test_orders: DynamoOrders
    wallet: DynamoWallet
    catalog: DynamoCatalog
    vault: SecretsVault
    sender: SenderPort
    caller: Caller
    gateway: Gateway
    following: Following
    settlement: Settlement


def build(settings: Settings, *, session: boto3.Session | None = None, endpoint: str | None = None) -> Parts:
    """Wire a stage.

    Args:
        settings: of the stage.
        session: AWS credentials and region; the environment's by default.
        endpoint: URL of an emulated AWS; by default that of the environment, or AWS itself.
    """
    session = session or boto3.Session()
    dynamodb = session.client("dynamodb", endpoint_url=endpoint, config=_DYNAMODB)
    secrets = session.client("secretsmanager", endpoint_url=endpoint, config=_SECRETS)
    return assemble(settings, dynamodb, secrets, _sender(settings), SYSTEM_CLOCK)


def _sender(settings: Settings) -> Sender:
    """Make the sender, with its TLS context: 30 ms of work that belongs into Lambda's start, not into a request."""
    context = None if settings.local else ssl.create_default_context()
    return Sender(allow_loopback=settings.local, ssl_context=context, user_agent=f"panelgate/{VERSION}")


def assemble(
    settings: Settings,
    dynamodb: "DynamoDBClient",
    secrets: "SecretsManagerClient",
    sender: SenderPort,
    clock: Clock,
) -> Parts:
    """Wire a stage from what reaches out of the process: its clients, its sender and its clock."""
    table = Table(dynamodb, settings.table, clock)
    directory, orders = DynamoDirectory(table), DynamoOrders(table)
    wallet, catalog = DynamoWallet(table), DynamoCatalog(table)
    vault = SecretsVault(secrets, settings, clock, Rotations(table))
    caller = Caller(DynamoPace(table), vault, sender, clock)
    guesses, tokens, refills = DynamoGuesses(table), DynamoTokens(table), DynamoRefills(table)
    gateway = Gateway(directory, guesses, tokens, directory, orders, refills, wallet, catalog, caller, clock)
    # What is kept of test mode goes by itself, and nothing that it is wired to reaches a panel or a key.
    passing = replace(table, kept=testmode.KEPT)
    test_orders = DynamoOrders(passing)
    trial = replace(
        gateway,
        providers=testmode.BuiltInProviders(),
        orders=test_orders,
        refills=DynamoRefills(passing),
        catalog=testmode.BuiltInCatalog(),
        caller=Caller(DynamoPace(table), OneKeyVault(testmode.KEY), testmode.BuiltInPanel(clock), clock),
    )
    accounts, batcher = DynamoAccounts(table), Batcher(caller, directory)
    following = Following(orders, accounts, Tracking(orders, batcher, clock), clock)
    settlement = Settlement(orders, accounts, batcher, clock)
    return Parts(
        settings=settings,
        clock=clock,
        table=table,
        directory=directory,
        orders=orders,
        test_orders=test_orders,
        wallet=wallet,
        catalog=catalog,
        vault=vault,
        sender=sender,
        caller=caller,
        gateway=replace(gateway, trial=trial),
        following=following,
        settlement=settlement,
    )


@cache
def parts() -> Parts:
    """Return this container's parts, wired at first use from its environment."""
    return build(Settings.from_environment(os.environ))
