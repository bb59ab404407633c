"""A provider key's rotation, step by step: each step may be broken off, and is done again by the next run.

What a step does is done before it is recorded, and may be done twice: `aws.rotations` says which steps there are.
"""

import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError

from chalicelib.aws.rotations import ENDS, Moved, Rotation, Rotations, Step
from chalicelib.aws.vault import CURRENT, MARKED_FOR_DELETION, PENDING, PREVIOUS, NoKey
from chalicelib.clock import SECOND
from chalicelib.errors import Unavailable
from chalicelib.keys import ProviderKey
from chalicelib.model import Account, Provider
from cli.acts import identity
from cli.console import Console, Failure
from cli.orders import refuse_unsettled
from cli.proving import Comparison, Rejected, prove, told

WATCH_EVERY = SECOND
"""µs between two looks at what the gateway noted of a new key."""
ASK_EVERY = 10 * SECOND
"""µs between two questions of our own with it: there may be no traffic."""
ASK_AGAIN = 2 * SECOND
"""µs between an answer that would have us go back and the question whether that is meant."""
NOTES = 2
"""So many rejections that the gateway noted are no oversight of the panel's. A container notes one in ten seconds."""
USED = "ResourceExistsException"
REJECTED = "the panel rejects it"
CUT_SHORT = "another key came before its watch had ended"


@dataclass
class Rotating:
    """The key of one account, while it is being changed."""

    console: Console
    provider: Provider
    watch: int = 0
    """Seconds for which a new key is watched."""
    is_sure: bool = False
    """The operator has said yes to leaving open orders behind."""
    proof: dict[str, Any] = field(default_factory=dict)
    trouble: str | None = None
    rotations: Rotations = field(init=False)
    by: str = field(init=False)

    def __post_init__(self) -> None:
        self.rotations = Rotations(self.console.parts.table)
        self.by = identity(self.console.aws)["arn"]

    # -- to a new key ----------------------------------------------------------------------------------------------

    def begin(self, key: str, *, token: str | None, other_account: bool) -> Rotation:
        """Record and store a new key, not yet in use, or return the rotation to it that was begun before.

        Args:
            key: the new key.
            token: version id, 32 to 64 characters; the same one stands for the same rotation. None: any.
            other_account: it opens another account than the key in use.

        Raises:
            Failure: another rotation is not finished, the token was used for another key, or orders of the account that
                it leaves are not settled.
        """
        known, watched = self._begun(key, token)
        if known is not None and known.step in ENDS:
            return self._ended(known, key)
        if known is None:
            before = self._in_use()
            if before is not None and self._holds(before, key):
                return self._is_in_use(before)
            new = Rotation(
                account=self.provider.account,
                version=token or str(uuid.uuid4()),
                before=before,
                other_account=other_account,
            )
            self._check_orders(new)
            if watched is not None:
                self._cut_short(watched, new, key)
            known = self.rotations.begin(new, by=self.by)
        else:
            self._check_orders(known)
        if known.step is Step.PENDING:
            self._store(known, key, token)
        return known

    def _begun(self, key: str, token: str | None) -> tuple[Rotation | None, Rotation | None]:
        """Return the rotation to a key, or of a token, that was begun before, and one that is only watched.

        What was begun may not be stored yet: that it is the rotation to another key comes out when this one is.
        The one that is watched is to another key, and gives way to this one.
        """
        account = self.provider.account
        unfinished = self.rotations.unfinished(account)
        if unfinished is not None and unfinished.step is Step.ROLLING_BACK:
            if unfinished.events[-1].get("reason") == REJECTED and self._holds(unfinished.version, key):
                return unfinished, None
            self._roll_back(unfinished)
            unfinished = None
        known = unfinished if token is None else self.rotations.get(account, token)
        if known is not None and known.step in ENDS:
            return known, None
        if known is not None and known.step is not Step.PENDING and not self._holds(known.version, key):
            if token is not None:
                raise self._is_another_key(known, token)
            known = None
        if unfinished is None or (known is not None and known.version == unfinished.version):
            return known, None
        if known is not None or unfinished.step is not Step.PROMOTED or self._holds(unfinished.version, key):
            raise self._is_unfinished(unfinished)
        return None, unfinished

    def _cut_short(self, watched: Rotation, new: Rotation, key: str) -> None:
        """End a watch for a key that proves itself: nobody else would notice that the one in use is rejected.

        Nobody may have to wait for a watch: the key that is watched may have leaked, and the one before be dead.
        """
        try:
            self._proof_of(new, ProviderKey(key, new.version))
        except Failure as error:
            raise Failure(f"{error.format_message()} Nothing was changed: the key in use is still watched.") from None
        self.rotations.advance(watched, Step.DONE, by=self.by, reason=CUT_SHORT)

    def _ended(self, rotation: Rotation, key: str) -> Rotation:
        """Return the rotation of a token that was used, if it brought the key that is in use."""
        version = self._in_use()
        if version == rotation.version:
            if not self._holds(version, key):
                raise self._is_another_key(rotation, version)
            return self._is_in_use(version)
        raise Failure(
            f"The rotation {rotation.version} has ended as {rotation.step}, and version {version or 'none'} is in use."
            " Use another token for a new one."
        )

    def _in_use(self) -> str | None:
        """Return the version that is in use, if one is; one that was given up is not, or no longer.

        Secrets Manager makes the first version of a secret the current one at once, and it stays that when it fails.
        """
        current = self._current()
        found = None if current is None else self.rotations.get(self.provider.account, current)
        if found is None or found.step is not Step.FAILED:
            return current
        self._leave_account_of(found)
        self._take_out_of_use(found)
        return found.before

    def _current(self) -> str | None:
        labels = self.console.parts.vault.labels(self.provider.account)
        return next((version for version, its in labels.items() if CURRENT in its), None)

    def _is_in_use(self, version: str) -> Rotation:
        """Return the rotation that brought the key that is in use: it was broken off after its last step."""
        known = self.rotations.get(self.provider.account, version)
        if known is None or known.step is not Step.DONE:
            raise Failure(f"{self.provider.slug} is called with this very key already.")
        account = known.account
        if account.tenant is not None or "reason" in known.events[-1]:  # its watch has not shown that it is good
            self.proof = told(prove(self.console, self.provider, self.console.parts.vault.version(account, version)))
        if account.tenant is not None:  # it may have been withdrawn since
            self.console.registry.set_own_key(account.tenant, account.provider, is_used=True)
        return known

    def _holds(self, version: str, key: str) -> bool:
        try:
            return self.console.parts.vault.version(self.provider.account, version).value == key
        except NoKey:
            return False

    def _check_orders(self, rotation: Rotation) -> None:
        """Before a rotation to another account: see to the orders of the one that is in use."""
        is_to_come = rotation.step in (Step.PENDING, Step.PROVED) and rotation.version != self._current()
        if rotation.other_account and is_to_come:
            self._leave_account()

    def _leave_account(self) -> None:
        """Only the account that bought an order can tell what became of it: refuse, or ask, to leave one behind."""
        slug, account, orders = self.provider.slug, self.provider.account, self.console.parts.orders
        refuse_unsettled(self.console, slug, [account])
        count = sum(1 for _ in orders.open(account))
        if count and not self.is_sure:
            self.console.confirm(
                f"Leave this account at {slug}? Its {count} open orders can then no longer be followed."
            )

    def _store(self, rotation: Rotation, key: str, token: str | None) -> None:
        try:
            store(self.console, self.provider, key, rotation.version)
        except ClientError as error:
            if error.response["Error"]["Code"] != USED:
                raise
            raise self._is_another_key(rotation, token) from None

    def _is_another_key(self, rotation: Rotation, token: str | None) -> Failure:
        if token is None:
            return self._is_unfinished(rotation)
        return Failure(f"The token {token} was used for another key.")

    def _is_unfinished(self, rotation: Rotation) -> Failure:
        return Failure(
            f"A rotation to another key is not finished (version {rotation.version}, {rotation.step}). Give that key to"
            f" go on with it, or give it up with `keys rollback {self.provider.slug}`."
        )

    def finish(self, rotation: Rotation, key: str) -> Rotation:
        """Take a rotation to its end, from wherever it stands, and return it.

        Raises:
            Failure: the new key did not prove itself, or was rejected when it was in use.
            Moved: another command goes on with it.
        """
        steps: Mapping[Step, Callable[[Rotation, ProviderKey], Rotation]] = {
            Step.PENDING: self._prove,
            Step.PROVED: self._promote,
            Step.PROMOTED: self._observe,
        }
        new = ProviderKey(key, rotation.version)
        while rotation.step in steps:
            self.console.progress(f"{self.provider.slug}: the new key is {rotation.step} …")
            rotation = steps[rotation.step](rotation, new)
        if rotation.step is Step.ROLLING_BACK:
            self._roll_back(rotation)
            raise Failure(f"{self.provider.slug} rejects the new key: the one before is in use again.")
        if self.trouble:
            raise Failure(self.trouble)
        return rotation

    def _prove(self, rotation: Rotation, new: ProviderKey) -> Rotation:
        try:
            self.proof = self._proof_of(rotation, new)
        except Failure as error:
            reason = error.format_message()
            self.rotations.advance(rotation, Step.FAILED, by=self.by, reason=reason)
            self.console.parts.vault.discard_pending(rotation.account, rotation.version)
            stays = "; the old one stays in use" if rotation.before else ""
            raise Failure(f"{reason} The new key was dropped{stays}.") from None
        return self.rotations.advance(rotation, Step.PROVED, by=self.by, proof=spelled(self.proof))

    def _proof_of(self, rotation: Rotation, new: ProviderKey) -> dict[str, Any]:
        if rotation.before is None or rotation.other_account:
            proof = told(prove(self.console, self.provider, new))
        else:
            proof = Comparison(self.console, self.provider, new, self._key_of(rotation.account)).prove()
        if proof.get("same_order") is None:
            self._check_owner(new)
        return proof

    def _key_of(self, account: Account) -> ProviderKey | None:
        """Return an account's key; None: there is none, or what is stored there is none of this account."""
        try:
            return self.console.parts.vault.key(account, fresh=True)
        except NoKey:
            return None

    def _check_owner(self, new: ProviderKey) -> None:
        """Refuse a key that opens an account of somebody else here: its orders and balance would have two owners.

        The operator is one, and each tenant with a key of its own is another; tenants may share one.
        """
        slug, owner, every = self.provider.slug, self.provider.owner, self.console.parts.directory.every_account()
        tenants = [one for one in every if one.provider == slug and one.tenant is not None]
        for other in tenants if owner is None else [Account(slug)]:
            theirs = self.provider.called_by(other.tenant)
            if Comparison(self.console, theirs, new, self._key_of(other)).are_of_one_account():
                whose, mine = (f"{other.tenant}'s", "yours") if owner is None else ("your own", f"{owner}'s")
                raise Failure(f"This key opens {whose} account at {slug}, not one of {mine}.")

    def _promote(self, rotation: Rotation, _new: ProviderKey) -> Rotation:
        account = rotation.account
        self.console.parts.vault.promote(account, rotation.version)
        if account.tenant is not None:
            self.console.registry.set_own_key(account.tenant, account.provider, is_used=True)
        try:
            return self.rotations.advance(rotation, Step.PROMOTED, by=self.by)
        except Moved:
            moved = self.rotations.get(account, rotation.version)
            if moved is not None and moved.step is Step.FAILED:  # given up after it was looked whether it is in use
                self._take_out_of_use(moved)
            raise

    def _observe(self, rotation: Rotation, new: ProviderKey) -> Rotation:
        """Watch a key that has come into use; return its rotation as done, or as to be rolled back.

        What the panel says once is no reason to go back: no request fails for it, for the key before stands in.
        """
        clock, notes, is_rejected = self.console.parts.clock, set[int](), False
        end, ask_at = (rotation.promoted or 0) + self.watch * SECOND, 0
        while True:
            now, noted = clock.now(), self.rotations.rejected(rotation.account, rotation.version)
            if noted is not None and noted not in notes:
                notes.add(noted)
                ask_at = now
            if now >= ask_at:
                is_rejected = self._is_rejected(new)
                is_bad = is_rejected or len(notes) >= NOTES
                judged = self._judge(rotation, is_rejected=is_rejected) if is_bad else None
                if judged is not None:
                    return judged
                ask_at = now + (ASK_AGAIN if is_rejected else ASK_EVERY)
            if now >= end:
                if is_rejected:
                    return self._leave_rejected(rotation)
                return self.rotations.advance(rotation, Step.DONE, by=self.by)
            clock.sleep(min(WATCH_EVERY, end - now) / SECOND)

    def _is_rejected(self, new: ProviderKey) -> bool:
        """Say whether the panel rejects a key, and does so when it is asked again."""
        for pause in (0, ASK_AGAIN):
            self.console.parts.clock.sleep(pause / SECOND)
            try:
                prove(self.console, self.provider, new)
            except Rejected:
                continue
            except Failure as error:  # says something of the panel, and nothing of the key
                self.console.progress(error.format_message())
            return False
        return True

    def _judge(self, rotation: Rotation, *, is_rejected: bool) -> Rotation | None:
        """Have a bad key rolled back if the one before works, or leave it if none does; None: look again."""
        try:
            works = self._proof_of_before(rotation) is not None
        except (Failure, Unavailable, ClientError, BotoCoreError) as error:
            self.console.progress(f"Whether the key before works cannot be told: {error}")
            return None
        if works:
            return self.rotations.advance(rotation, Step.ROLLING_BACK, by=self.by, reason=REJECTED)
        return self._leave_rejected(rotation) if is_rejected else None

    def _leave_rejected(self, rotation: Rotation) -> Rotation:
        slug = self.provider.slug
        self.trouble = (
            f"{slug} rejects the new key, and no key before it is known to work: it stays in use. Rotate to a good one:"
            f" `keys rotate {slug}`."
        )
        return self.rotations.advance(rotation, Step.DONE, by=self.by, reason=REJECTED)

    # -- back to the one before ------------------------------------------------------------------------------------

    def roll_back(self) -> Rotation:
        """Go back to the key before the current one, or give up a rotation that has not come into use.

        Raises:
            Failure: there is no key before, or it does not work, or it opens another account and orders of the one that
                is in use are not settled.
        """
        account = self.provider.account
        rotation = self.rotations.unfinished(account)
        if rotation is None:
            current = self._current()
            rotation = None if current is None else self.rotations.get(account, current)
            if rotation is not None and rotation.step is Step.FAILED:
                self._leave_account_of(rotation)
                if self._take_out_of_use(rotation):
                    return rotation
        elif rotation.step in (Step.PENDING, Step.PROVED):
            return self._give_up(rotation)
        if rotation is None or rotation.step in (Step.FAILED, Step.ROLLED_BACK):
            raise Failure(f"There is no key at {self.provider.slug} to go back to.")
        if rotation.step is not Step.ROLLING_BACK:
            self._leave_account_of(rotation)
            proof = self._proof_of_before(rotation)
            if proof is None:
                raise Failure(f"There is no key at {self.provider.slug} to go back to that works. Nothing was changed.")
            self.proof = proof
            rotation = self.rotations.advance(
                rotation, Step.ROLLING_BACK, by=self.by, reason="the operator", proof=spelled(proof)
            )
        return self._roll_back(rotation)

    def _proof_of_before(self, rotation: Rotation) -> dict[str, Any] | None:
        """Return what proves the key before a version; None: there is none, or the panel rejects it.

        Raises:
            Failure: the panel does not say whether it takes that key.
            Unavailable: Secrets Manager does not answer.
        """
        vault, account = self.console.parts.vault, rotation.account
        if rotation.before is None or PREVIOUS not in vault.labels(account).get(rotation.before, ()):
            return None
        try:
            return told(prove(self.console, self.provider, vault.version(account, rotation.before)))
        except (Rejected, NoKey) as error:
            self.console.progress(f"The key before: {error}")
            return None

    def _leave_account_of(self, rotation: Rotation) -> None:
        """Before a key that is in use makes room for the one before: see to the orders that were bought with it."""
        if rotation.other_account and rotation.before is not None:
            self._leave_account()

    def _roll_back(self, rotation: Rotation) -> Rotation:
        if rotation.before is not None:
            self.console.parts.vault.promote(rotation.account, rotation.before)
        return self.rotations.advance(rotation, Step.ROLLED_BACK, by=self.by)

    def _give_up(self, rotation: Rotation) -> Rotation:
        """End a rotation that was broken off before its key was recorded as in use; it may be in use all the same.

        It is recorded first, so that no command that goes on with it can record its key as in use after it was taken
        out of use; who dies in between is made good by the next command.
        """
        account, vault = rotation.account, self.console.parts.vault
        labels = vault.labels(account).get(rotation.version, frozenset())
        if CURRENT in labels:
            self._leave_account_of(rotation)
        ended = self.rotations.advance(rotation, Step.FAILED, by=self.by, reason="given up by the operator")
        self._take_out_of_use(rotation)
        if PENDING in labels:
            vault.discard_pending(account, rotation.version)
        return ended

    def _take_out_of_use(self, rotation: Rotation) -> bool:
        """Use what was used before a version, the key before or the operator's; return False if it was not in use."""
        account, registry = rotation.account, self.console.registry
        if self._current() != rotation.version:
            return False
        if rotation.before is not None:
            if rotation.other_account:
                self.rotations.set_marks_aside(account)
            self.console.parts.vault.promote(account, rotation.before)
            return True
        if account.tenant is None or account.provider not in registry.tenant(account.tenant).own_keys:
            return False
        registry.set_own_key(account.tenant, account.provider, is_used=False)
        return True


def spelled(proof: Mapping[str, Any]) -> dict[str, Any]:
    """Return a proof as the table keeps it, where numbers are integers."""
    return {name: value if isinstance(value, bool | int | None) else str(value) for name, value in proof.items()}


def store(console: Console, provider: Provider, key: str, version: str) -> ProviderKey:
    """Store a key that is not in use yet, also where the provider had been removed and its secret still waits.

    The same version stores it once.

    Raises:
        Missing: the provider has been removed meanwhile.
    """
    vault, account = console.parts.vault, provider.account
    try:
        return vault.store_pending(account, key, token=version)
    except ClientError as error:
        if error.response["Error"]["Code"] != MARKED_FOR_DELETION:
            raise
    console.registry.provider(provider.slug)
    secrets = console.aws.session.client("secretsmanager", endpoint_url=console.aws.endpoint)
    secrets.restore_secret(SecretId=console.parts.settings.provider_secret(account))
    return vault.store_pending(account, key, token=version)
