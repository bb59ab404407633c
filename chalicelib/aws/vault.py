"""The provider keys: one secret a provider in Secrets Manager, and nowhere else."""

import random
from typing import TYPE_CHECKING

from botocore.exceptions import BotoCoreError, ClientError

from chalicelib.errors import Unavailable
from chalicelib.keys import ProviderKey
from chalicelib.model import Account
from chalicelib.ports import Clock
from chalicelib.settings import Settings

if TYPE_CHECKING:
    from types_boto3_secretsmanager import SecretsManagerClient

# A rotated key is used within 60 s (contract 8.8): a container looks again after 40 to 60 s, in µs, so that all
# containers do not ask at once.
MAX_AGE = 60_000_000
_MIN_AGE = 40_000_000
# Two tries of 2.5 s and the pause between them (`wiring`), in µs.
_READ_TIME = 5_500_000
CURRENT, PENDING = "AWSCURRENT", "AWSPENDING"


class SecretsVault:
    """Provider keys in Secrets Manager; see ``ports.Vault``."""

    def __init__(self, client: "SecretsManagerClient", settings: Settings, clock: Clock) -> None:
        """Use ``client``; keys are cached here, in memory only."""
        self._client = client
        self._settings = settings
        self._clock = clock
        self._cache: dict[Account, tuple[ProviderKey, int]] = {}

    def key(self, account: Account, *, until: int | None = None, fresh: bool = False) -> ProviderKey:
        """Return an account's current key.

        Raises:
            Unavailable: there is none, or Secrets Manager does not answer, or not before ``until`` (epoch µs), and no
                key is cached.
        """
        cached, best_before = self._cache.get(account, (None, 0))
        now = self._clock.now()
        if cached is not None and not fresh and best_before - MAX_AGE <= now < best_before:
            return cached
        try:
            key = self._read(account, until)
        except Unavailable:
            if cached is None or fresh:
                raise
            return cached  # older than it should be, and better than none
        self._cache[account] = (key, now + random.randint(_MIN_AGE, MAX_AGE))  # noqa: S311 - jitter
        return key

    def _read(self, account: Account, until: int | None) -> ProviderKey:
        if until is not None and self._clock.now() + _READ_TIME > until:
            raise Unavailable("no time to read the provider key")
        try:
            reply = self._client.get_secret_value(
                SecretId=self._settings.provider_secret(account), VersionStage=CURRENT
            )
        except (ClientError, BotoCoreError) as error:
            raise Unavailable(f"no provider key: {_cause(error)}") from None
        return ProviderKey(reply["SecretString"], reply["VersionId"])

    # -- the operator's side ---------------------------------------------------------------------------------------

    def store_pending(self, account: Account, key: str, *, token: str) -> ProviderKey:
        """Store a new key beside the current one, not yet in use; the same ``token`` stores it once.

        Args:
            account: whose, at which provider.
            key: the new key.
            token: version id, 32 to 64 characters.
        """
        name = self._settings.provider_secret(account)
        try:
            self._client.put_secret_value(
                SecretId=name, SecretString=key, ClientRequestToken=token, VersionStages=[PENDING]
            )
        except ClientError as error:
            if error.response["Error"]["Code"] != "ResourceNotFoundException":
                raise
            self._client.create_secret(
                Name=name,
                Description=f"API key at the provider {account.provider}; managed by panelgate",
            )
            self._client.put_secret_value(
                SecretId=name, SecretString=key, ClientRequestToken=token, VersionStages=[PENDING]
            )
        return ProviderKey(key, token)

    def promote(self, account: Account, version: str) -> None:
        """Make a stored version the current one; the one before stays as AWSPREVIOUS."""
        name = self._settings.provider_secret(account)
        stages = self._client.describe_secret(SecretId=name).get("VersionIdsToStages", {})
        current = next((old for old, labels in stages.items() if CURRENT in labels), None)
        if current is None:
            self._client.update_secret_version_stage(SecretId=name, VersionStage=CURRENT, MoveToVersionId=version)
        elif current != version:
            self._client.update_secret_version_stage(
                SecretId=name, VersionStage=CURRENT, MoveToVersionId=version, RemoveFromVersionId=current
            )
        if PENDING in stages.get(version, ()):
            self.discard_pending(account, version)

    def discard_pending(self, account: Account, version: str) -> None:
        """Take the label of a pending version away: it is current now, or it did not prove itself."""
        name = self._settings.provider_secret(account)
        self._client.update_secret_version_stage(SecretId=name, VersionStage=PENDING, RemoveFromVersionId=version)

    def forget(self, account: Account) -> None:
        """Schedule the secret's deletion with Secrets Manager's recovery window of 30 days."""
        self._client.delete_secret(SecretId=self._settings.provider_secret(account), RecoveryWindowInDays=30)


def _cause(error: ClientError | BotoCoreError) -> str:
    return error.response["Error"]["Code"] if isinstance(error, ClientError) else type(error).__name__
