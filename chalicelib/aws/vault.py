"""The provider keys: one secret an account in Secrets Manager, and nowhere else.

A secret's string says whose it is, so that one that was moved to another tenant, provider or stage opens nothing.
"""

import json
import random
from collections.abc import Callable, Collection, Iterator
from typing import TYPE_CHECKING

from botocore.exceptions import BotoCoreError, ClientError

from chalicelib.aws.rotations import Rotations
from chalicelib.clock import MINUTE, SECOND, Clock
from chalicelib.errors import StoreBusy, Unavailable
from chalicelib.keys import ProviderKey
from chalicelib.log import logger
from chalicelib.model import Account
from chalicelib.settings import Settings

if TYPE_CHECKING:
    from types_boto3_secretsmanager import SecretsManagerClient

# Two tries of 2.5 s and the pause between them (`wiring`), in µs.
_READ_TIME = 5_500_000
# A key that is older than it should be is not asked for again so soon: who waits for it is a request.
_STALE_FOR = 10 * SECOND
# A rotated key is used within 60 s (contract 8.8), also if one look at it fails. All containers do not look at once.
_MAX_AGE = MINUTE - 2 * _READ_TIME - _STALE_FOR
_MIN_AGE = 30 * SECOND
# What noting a rejection may take; the call that met it is waiting.
_NOTE_TIME = SECOND
# A container notes a rejected version, tries all the other ones, and doubts one, once in this time: panels lock out who
# guesses.
REJECTED_FOR = 10 * SECOND
CURRENT, PENDING, PREVIOUS = "AWSCURRENT", "AWSPENDING", "AWSPREVIOUS"
NO_SUCH, MARKED_FOR_DELETION = "ResourceNotFoundException", "InvalidRequestException"
GONE = frozenset({NO_SUCH, MARKED_FOR_DELETION})
"""What Secrets Manager says of a secret that is not there, or is being deleted."""

NOT_LABELLED = "InvalidParameterException"
"""What it says of a label that is to be taken from a version which does not have it."""


class NoKey(Unavailable):
    """There is no such version, its secret is being deleted, or what it holds was not stored for this account."""


class SecretsVault:
    """Provider keys in Secrets Manager; see ``ports.Vault``."""

    def __init__(self, client: "SecretsManagerClient", settings: Settings, clock: Clock, rotations: Rotations) -> None:
        """Use ``client``, and what is recorded of the keys' versions; keys are cached here, in memory only."""
        self._client = client
        self._settings = settings
        self._clock = clock
        self._rotations = rotations
        self._cache: dict[Account, tuple[ProviderKey, int]] = {}
        self._noted: dict[tuple[Account, str], int] = {}
        self._exhausted: dict[tuple[Account, bool], int] = {}
        self._stood_in: dict[Account, tuple[ProviderKey, int]] = {}
        self._doubted: dict[Account, int] = {}

    def key(self, account: Account, *, until: int | None = None, fresh: bool = False) -> ProviderKey:
        """Return an account's current key; ``fresh`` passes by the cache.

        Raises:
            Unavailable: there is none, or Secrets Manager does not answer, or not before ``until`` (epoch µs), and no
                key is cached.
        """
        cached, best_before = self._cache.get(account, (None, 0))
        now = self._clock.now()
        if cached is None or fresh:
            key = self._read(account, CURRENT, until)
        elif best_before - _MAX_AGE <= now < best_before or not self._has_time(until):
            return cached
        else:
            try:
                key = self._read(account, CURRENT, until)
            except Unavailable:  # older than it should be, and better than none
                newest, _ = self._cache[account]
                if newest is cached:  # no other thread has read another one meanwhile
                    self._cache[account] = (cached, self._clock.now() + _STALE_FOR)
                return newest
        self._remember(account, key)
        return key

    def version_at_hand(self, account: Account) -> str:
        """Return the version of the cached key, or nothing if none is cached."""
        cached, _ = self._cache.get(account, (None, 0))
        return "" if cached is None else cached.version

    def doubt(self, account: Account, key: ProviderKey) -> None:
        """Have the next call read the key anew, if it would use this one: its panel refused it, or something else."""
        cached, _ = self._cache.get(account, (None, 0))
        now = self._clock.now()
        if cached is not None and cached.version == key.version and not _is_recent(self._doubted.get(account), now):
            self._doubted[account] = now
            self._cache[account] = (cached, now)

    def instead(
        self, account: Account, rejected: ProviderKey, *, until: int, is_sure: Callable[[], bool]
    ) -> Iterator[ProviderKey]:
        """Yield what to try in the place of a key that the panel rejected, until ``until`` (epoch µs), in this order.

        First the current key, if it is another one by now. Then a pending one that has proved itself. Then the one
        before, unless it was retired. Who asks for the next one says that the panel rejected the last; whose panel
        takes one says so to `keep`. Where it may as well be the request that was rejected (not ``is_sure``, which is
        asked for each key), that is logged and not noted, and the first such key stays the container's: a tenant's odd
        request is no word against a key that works for others.
        """
        spared: list[tuple[ProviderKey, int]] = []

        def judge(key: ProviderKey) -> None:
            if is_sure():
                self._note(account, key.version, until)
            else:
                logger.warning(
                    "provider key or request rejected", extra={"facts": {**_facts(account), "version": key.version}}
                )
                cached, best_before = self._cache.get(account, (None, 0))
                is_cached = cached is not None and cached.version == key.version
                spared.append((key, best_before if is_cached else self._best_before()))

        try:
            judge(rejected)
            for key in self._others(account, rejected.version, until, spared):
                yield key
                judge(key)
        except (Unavailable, StoreBusy) as error:
            logger.warning("no other provider key", extra={"facts": {**_facts(account), "cause": str(error)}})
        if spared:
            self._cache[account] = spared[0]  # no younger than it was

    def keep(self, account: Account, key: ProviderKey) -> None:
        """Have a key that `instead` gave be this container's for a while: its panel has taken it."""
        self._stood_in[account] = key, self._clock.now()
        self._remember(account, key)

    def _others(self, account: Account, rejected: str, until: int, spared: Collection[object]) -> Iterator[ProviderKey]:
        current = self._read(account, CURRENT, until)
        if current.version != rejected:
            self._remember(account, current)
            yield current
        now, tried = self._clock.now(), {rejected, current.version}
        if any(_is_recent(self._exhausted.get((account, is_odd)), now) for is_odd in {False, bool(spared)}):
            stood_in, at = self._stood_in.get(account, (current, 0))
            if stood_in.version not in tried and 0 <= now - at < MINUTE:  # what has just worked is no guess
                yield stood_in
            return
        for label in (PENDING, PREVIOUS):
            key = self._read_if_any(account, label, until)
            if key is None or key.version in tried:
                continue
            if label == PENDING:
                is_good = self._rotations.may_stand_in(account, key.version)
            else:
                is_good = self._rotations.may_be_used_again(account, key.version, instead_of=current.version)
            if is_good:
                yield key
        self._exhausted[account, bool(spared)] = now  # an odd request holds back odd ones, and not who has a dead key
        self._remember(account, current)

    def _remember(self, account: Account, key: ProviderKey) -> None:
        self._cache[account] = (key, self._best_before())

    def _best_before(self) -> int:
        return self._clock.now() + random.randint(_MIN_AGE, _MAX_AGE)  # noqa: S311 - jitter

    def _note(self, account: Account, version: str, until: int) -> None:
        """Note a rejection where a rotation that runs sees it."""
        now = self._clock.now()
        if _is_recent(self._noted.get((account, version)), now):
            return
        self._noted[account, version] = now
        logger.warning("provider key rejected", extra={"facts": {**_facts(account), "version": version}})
        try:
            self._rotations.note_rejection(account, version, until=min(now + _NOTE_TIME, until))
        except StoreBusy as error:
            logger.warning("rejection not noted", extra={"facts": {**_facts(account), "cause": str(error)}})

    def _read_if_any(self, account: Account, label: str, until: int) -> ProviderKey | None:
        try:
            return self._read(account, label, until)
        except NoKey:
            return None

    def _read(self, account: Account, label: str, until: int | None) -> ProviderKey:
        if not self._has_time(until):
            raise Unavailable("no time to read the provider key")
        return self._get(account, VersionStage=label)

    def _has_time(self, until: int | None) -> bool:
        return until is None or self._clock.now() + _READ_TIME <= until

    def _get(self, account: Account, **which: str) -> ProviderKey:
        try:
            reply = self._client.get_secret_value(SecretId=self._settings.provider_secret(account), **which)
        except ClientError as error:
            code = error.response["Error"]["Code"]
            raise (NoKey if code in GONE else Unavailable)(f"no provider key: {code}") from None
        except BotoCoreError as error:
            raise Unavailable(f"no provider key: {type(error).__name__}") from None
        return ProviderKey(self._opened(account, reply["SecretString"]), reply["VersionId"])

    def _context(self, account: Account) -> dict[str, str | None]:
        return {"stage": self._settings.stage, "provider": account.provider, "tenant": account.tenant}

    def _sealed(self, account: Account, key: str) -> str:
        return json.dumps({**self._context(account), "key": key})

    def _opened(self, account: Account, text: str) -> str:
        """Return the key in a secret's string, if it was stored for this account of this stage."""
        try:
            envelope = json.loads(text)
        except ValueError:
            envelope = None
        expected = self._context(account)
        if not isinstance(envelope, dict) or {name: envelope.get(name) for name in expected} != expected:
            logger.error("misplaced secret", extra={"facts": _facts(account)})
            raise NoKey("the secret was not stored for this account")
        return str(envelope["key"])

    # -- the operator's side ---------------------------------------------------------------------------------------

    def version(self, account: Account, version: str) -> ProviderKey:
        """Return one version of an account's key.

        Raises:
            NoKey: it is not there, or not any more (Secrets Manager deletes versions without a label), or is no key of
                this account.
            Unavailable: Secrets Manager does not answer.
        """
        return self._get(account, VersionId=version)

    def store_pending(self, account: Account, key: str, *, token: str) -> ProviderKey:
        """Store a new key beside the current one, not yet in use; the same ``token`` stores it once.

        Args:
            account: whose, at which provider.
            key: the new key.
            token: version id, 32 to 64 characters.
        """
        name, sealed = self._settings.provider_secret(account), self._sealed(account, key)
        try:
            self._client.put_secret_value(
                SecretId=name, SecretString=sealed, ClientRequestToken=token, VersionStages=[PENDING]
            )
        except ClientError as error:
            if error.response["Error"]["Code"] != NO_SUCH:
                raise
            self._client.create_secret(
                Name=name,
                Description=f"API key at the provider {account.provider}; managed by panelgate",
            )
            self._client.put_secret_value(
                SecretId=name, SecretString=sealed, ClientRequestToken=token, VersionStages=[PENDING]
            )
        return ProviderKey(key, token)

    def labels(self, account: Account) -> dict[str, frozenset[str]]:
        """Return the labels of an account's versions that have one, by version; empty: there is no key."""
        try:
            found = self._client.describe_secret(SecretId=self._settings.provider_secret(account))
        except ClientError as error:
            if error.response["Error"]["Code"] != NO_SUCH:
                raise
            return {}
        stages = found.get("VersionIdsToStages", {})
        return {version: frozenset(labels) for version, labels in stages.items() if labels}

    def promote(self, account: Account, version: str) -> None:
        """Make a stored version the current one; the one before stays as AWSPREVIOUS."""
        name, labels = self._settings.provider_secret(account), self.labels(account)
        current = next((old for old, at in labels.items() if CURRENT in at), None)
        if current is None:
            self._client.update_secret_version_stage(SecretId=name, VersionStage=CURRENT, MoveToVersionId=version)
        elif current != version:
            self._client.update_secret_version_stage(
                SecretId=name, VersionStage=CURRENT, MoveToVersionId=version, RemoveFromVersionId=current
            )
        if PENDING in labels.get(version, ()):
            self.discard_pending(account, version)

    def discard_pending(self, account: Account, version: str) -> None:
        """Take the label of a pending version away, if it has it: it is current now, or it did not prove itself."""
        name = self._settings.provider_secret(account)
        try:
            self._client.update_secret_version_stage(SecretId=name, VersionStage=PENDING, RemoveFromVersionId=version)
        except ClientError as error:
            if error.response["Error"]["Code"] != NOT_LABELLED:
                raise

    def forget(self, account: Account) -> None:
        """Schedule the secret's deletion with Secrets Manager's recovery window of 30 days."""
        self._client.delete_secret(SecretId=self._settings.provider_secret(account), RecoveryWindowInDays=30)


def _is_recent(at: int | None, now: int) -> bool:
    return at is not None and 0 <= now - at < REJECTED_FOR


def _facts(account: Account) -> dict[str, str | None]:
    return {"provider": account.provider, "tenant": account.tenant}
