"""A rotation that dies at any of its calls, before or after it took effect, and is run again."""

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from decimal import Decimal
from functools import partial
from itertools import count, pairwise
from typing import Any

import click
import pytest
from botocore.exceptions import ClientError

from chalicelib.aws.pace import DynamoPace
from chalicelib.aws.rotations import ENDS, STEPS, Moved, Rotation, Rotations, Step
from chalicelib.aws.vault import CURRENT, PREVIOUS
from chalicelib.clock import HOUR, SECOND
from chalicelib.errors import Refusal
from chalicelib.keys import ProviderKey
from chalicelib.model import Account, Tenant
from chalicelib.panels.dialect import Reply
from chalicelib.ports import Mark
from chalicelib.purchase import ANSWER_TIME
from chalicelib.wiring import Parts
from cli.console import Aws, Console, Failure
from cli.rotation import REJECTED, Rotating
from tests.faults import Faulty, Killed, store_error
from tests.world import PROVIDER_KEY, World, buys

SMOSALE = Account("smosale")
WATCH = 3


def die() -> None:
    raise Killed


@dataclass
class Life:
    """Counts a command's calls, and ends at one of them: before it is made, or before its answer arrives."""

    last: int = -1
    is_done: bool = False
    until: str | None = None
    """The name of the call that it ends at, instead of its number."""
    calls: list[str] = field(default_factory=list)

    def call(self, name: str, act: Callable[[], Any]) -> Any:
        self.calls.append(name)
        if name != self.until and len(self.calls) - 1 != self.last:
            return act()
        if self.is_done:
            act()
        raise Killed

    def wrapped(self, target: Any) -> Any:
        life = self

        class Mortal:
            def __getattr__(self, name: str) -> Any:
                found = getattr(target, name)
                if not callable(found):
                    return found
                return lambda *args, **named: life.call(name, lambda: found(*args, **named))

        return Mortal()


@dataclass
class Meeting(Life):
    """A life in which somebody else does something, right before one of its calls."""

    other: Callable[[], object] = die
    has_met: bool = False

    def call(self, name: str, act: Callable[[], Any]) -> Any:
        self.calls.append(name)
        if len(self.calls) - 1 == self.last:
            with contextlib.suppress(Failure):  # there may be nothing to do
                self.other()
                self.has_met = True
        return act()


@dataclass
class Operator:
    """Runs commands on a stage, each in a process of its own."""

    world: World
    aws: Aws
    account: Account = SMOSALE
    watch: int = WATCH

    def parts(self, life: Life) -> Parts:
        world = self.world
        return world.twin(*map(life.wrapped, (world.parts.table.client, world.secrets, world.panel)))

    def work(self, life: Life | None = None) -> Rotating:
        console = Console(stage=self.world.parts.settings.stage)
        console.__dict__.update(aws=self.aws, parts=self.parts(life or Life()))
        return Rotating(console, self.world.registry.provider("smosale").called_by(self.account.tenant), self.watch)

    def rotate(self, key: str, life: Life | None = None, *, other_account: bool = False) -> Rotation:
        work = self.work(life)
        return work.finish(work.begin(key, token=None, other_account=other_account), key)

    def roll_back(self, life: Life | None = None) -> None:
        self.work(life).roll_back()

    @property
    def rotations(self) -> Rotations:
        return Rotations(self.world.parts.table)

    def used(self) -> ProviderKey:
        """Return what new orders are bought with."""
        tenant = self.account.tenant
        is_own = tenant is None or "smosale" in self.world.registry.tenant(tenant).own_keys
        return self.world.twin().vault.key(self.account if is_own else SMOSALE)

    def unfinished(self) -> Rotation:
        found = self.rotations.unfinished(self.account)
        assert found is not None
        return found


@pytest.fixture
def operator(world: World, emulator: str, monkeypatch: pytest.MonkeyPatch) -> Operator:
    monkeypatch.setattr("cli.rotation.identity", lambda _aws: {"arn": "arn:aws:iam::000000000000:user/op"})
    return Operator(world, Aws.emulated(emulator))


def tells_a_balance(_panel: object, _fields: dict[str, str]) -> Reply:
    return Reply(200, {}, b'{"balance":"100.84292","currency":"USD"}')


@dataclass
class WhenInUse:
    """Does something at the panel's first question with a key that is in use: in its watch."""

    world: World
    key: str
    act: Callable[[], object]
    is_done: bool = False

    def __call__(self, panel: object, fields: dict[str, str]) -> Reply:
        if fields["key"] == self.key and not self.is_done and current(self.world) == self.key:
            self.is_done = True
            self.act()
        return tells_a_balance(panel, fields)


def dies_in_its_watch(world: World, operator: Operator, key: str) -> None:
    world.panel.behaviours["balance"] = WhenInUse(world, key, die)
    with pytest.raises(Killed):
        operator.rotate(key)


def check(world: World) -> None:
    """Buy in a cold container, with whatever key is current: no step of a rotation fails a request."""
    world.time.at += SECOND
    receipt = world.add(parts=world.twin())
    assert not receipt.pending


def current(world: World) -> str:
    return world.twin().vault.key(SMOSALE).value


def labels(world: World) -> dict[str, str]:
    """Return the keys by their labels."""
    vault = world.twin().vault
    return {
        label: vault.version(SMOSALE, version).value for version, at in vault.labels(SMOSALE).items() for label in at
    }


def check_record(world: World, account: Account = SMOSALE) -> None:
    """What is recorded of every version is a way through the steps, and it has come to an end."""
    rotations = Rotations(world.parts.table)
    assert rotations.unfinished(account) is None
    for rotation in rotations.history(account):
        steps = [Step(event["step"]) for event in rotation.events]
        assert steps[0] is Step.PENDING
        assert all(after in STEPS[before] for before, after in pairwise(steps)), steps
        assert rotation.step is steps[-1]
        assert rotation.step in ENDS


def deaths() -> Iterator[Life]:
    for number in count():
        for is_done in (False, True):
            yield Life(number, is_done)


def test_a_rotation_that_dies_at_any_call_is_finished_by_the_next_run(world: World, operator: Operator) -> None:
    died, old = 0, PROVIDER_KEY
    for life in deaths():
        new = f"pk-the-new-one-{died:04}"
        world.panel.keys = {old, new}
        try:
            operator.rotate(new, life)
        except Killed:
            died += 1
            check(world)
            operator.rotate(new)
        assert labels(world) == {CURRENT: new, PREVIOUS: old}
        check(world)
        check_record(world)
        old = new
        if life.last >= len(life.calls):
            break
    assert died > 40, "it hardly ever died: this showed nothing"
    assert {"send", "transact_write_items", "put_secret_value", "update_secret_version_stage"} <= set(life.calls)


def test_a_rollback_that_dies_at_any_call_is_finished_by_the_next_run(world: World, operator: Operator) -> None:
    died = 0
    world.panel.keys = {PROVIDER_KEY, "pk-the-new-one-1"}
    for life in deaths():
        operator.rotate("pk-the-new-one-1")
        try:
            operator.roll_back(life)
        except Killed:
            died += 1
            check(world)
            with contextlib.suppress(Failure):  # it may have been done
                operator.roll_back()
        assert labels(world) == {CURRENT: PROVIDER_KEY, PREVIOUS: "pk-the-new-one-1"}
        check_record(world)
        if life.last >= len(life.calls):
            break
    assert died > 10, "it hardly ever died: this showed nothing"


@pytest.mark.parametrize("other_account", [False, True])
def test_a_secret_that_somebody_wrote_by_hand_is_replaced(
    world: World, operator: Operator, *, other_account: bool
) -> None:
    """It opens nothing: whatever key it holds, it is another one, and as good as rejected."""
    new = "pk-the-new-one-1"
    world.panel.keys |= {new}
    world.secrets.put_secret_value(SecretId=world.parts.settings.provider_secret(SMOSALE), SecretString=PROVIDER_KEY)
    rotation = operator.rotate(new, other_account=other_account)
    assert current(world) == new
    assert rotation.events[1]["proof"].get("old_key") == (None if other_account else "unreadable")
    check(world)
    check_record(world)


NO_WORD = [
    Reply(401, {}, b'{"error":"Unauthorized"}'),
    Reply(403, {}, b"<html>Forbidden</html>"),
    Reply(200, {}, b'{"error":"Invalid API key or account suspended"}'),
]


@pytest.mark.parametrize("word", NO_WORD)
def test_a_dead_key_is_left_in_whatever_words_the_panel_rejects_it(
    world: World, operator: Operator, word: Reply
) -> None:
    new = "pk-the-new-one-1"
    world.panel.keys = {PROVIDER_KEY, new}
    world.panel.behaviours["balance"] = lambda panel, fields: (
        word if fields["key"] == PROVIDER_KEY else tells_a_balance(panel, fields)
    )
    with pytest.raises(Failure, match=r"takes the new key.*the key in use cannot be asked.*--other-account"):
        operator.rotate(new)
    world.add()
    proof = operator.rotate(new).events[1]["proof"]
    assert current(world) == new
    assert (proof["old_key"], proof["same_balance"], proof["same_order"]) == ("unknown", False, 23501)
    check_record(world)


@dataclass
class Revoking:
    """The panel stops taking a key as soon as it is in use: `purchases` prove it."""

    world: World
    key: str

    def __call__(self, panel: object, fields: dict[str, str]) -> Reply:
        if fields["key"] == self.key and current(self.world) == self.key:
            return Reply(200, {}, b'{"error":"Invalid API key"}')
        return tells_a_balance(panel, fields)


def test_a_key_that_fails_in_use_is_rolled_back_whatever_call_the_command_dies_at(
    world: World, operator: Operator
) -> None:
    died = 0
    for life in deaths():
        new = f"pk-the-new-one-{died:04}"
        world.panel.keys = {PROVIDER_KEY, new}
        world.panel.behaviours["balance"] = Revoking(world, new)
        try:
            with pytest.raises(Failure, match="the one before is in use again"):
                operator.rotate(new, life)
        except Killed:
            died += 1
            check(world)
            with pytest.raises(Failure, match="the one before is in use again"):
                operator.rotate(new)
        assert current(world) == PROVIDER_KEY
        check_record(world)
        if life.last >= len(life.calls):
            break
    assert died > 40


def test_a_rotation_that_was_broken_off_can_be_given_up_at_any_call(world: World, operator: Operator) -> None:
    died = 0
    for life in deaths():
        new = f"pk-the-new-one-{died:04}"
        world.panel.keys = {PROVIDER_KEY, new}
        try:
            operator.rotate(new, life)
        except Killed:
            died += 1
            with contextlib.suppress(Failure):  # nothing may have been begun
                operator.roll_back()
        else:
            operator.roll_back()
        assert current(world) == PROVIDER_KEY
        check_record(world)
        check(world)
        if life.last >= len(life.calls):
            break
    assert died > 40


@pytest.mark.parametrize("tenant", [None, "acme"])
def test_who_gives_up_a_rotation_that_runs_elsewhere_has_the_key_before_whatever_call_that_is_at(
    world: World, operator: Operator, tenant: str | None
) -> None:
    """With a tenant: its first own key, before which there is none."""
    met = 0
    for number in count():
        new = f"pk-the-new-one-{number:04}"
        world.panel.keys = {PROVIDER_KEY, new}
        if tenant is not None:
            tenant = f"own-{number}"
            world.add_tenant(Tenant(id=tenant))
        runs = replace(operator, account=Account("smosale", tenant))
        meeting = Meeting(number, other=runs.roll_back)
        with contextlib.suppress(Failure, Moved):
            runs.rotate(new, meeting)
        if not meeting.has_met:
            with contextlib.suppress(Failure):  # a first key stays
                runs.roll_back()
        else:
            met += 1
            assert runs.used().value == PROVIDER_KEY
        assert current(world) == PROVIDER_KEY
        check_record(world, runs.account)
        check(world)
        if number >= len(meeting.calls):
            break
    assert met > 8, "they hardly ever met: this showed nothing"


PROMOTES = "update_secret_version_stage"


@pytest.mark.parametrize("tenant", [None, "acme"])
def test_a_rotation_that_goes_on_while_it_is_given_up_ends_one_way_or_the_other(
    world: World, operator: Operator, tenant: str | None
) -> None:
    """What is recorded of the key is what became of it, whoever is first."""
    met = 0
    for number in count():
        new = f"pk-the-new-one-{number:04}"
        world.panel.keys = {PROVIDER_KEY, new}
        if tenant is not None:
            tenant = f"own-{number}"
            world.add_tenant(Tenant(id=tenant))
        runs = replace(operator, account=Account("smosale", tenant))
        with pytest.raises(Killed):
            runs.rotate(new, Life(until=PROMOTES, is_done=True))
        version = runs.unfinished().version
        meeting = Meeting(number, other=partial(runs.rotate, new))
        # Secrets Manager itself moves a label only from where it is.
        with contextlib.suppress(Failure, Moved, ClientError):
            runs.roll_back(meeting)
        met += meeting.has_met
        ended = runs.rotations.get(runs.account, version)
        assert ended is not None
        assert (runs.used().version == version) == (ended.step is Step.DONE)
        check_record(world, runs.account)
        if tenant is None:
            with contextlib.suppress(Failure):
                runs.roll_back()
        if number >= len(meeting.calls):
            break
    assert met > 2, "they hardly ever met: this showed nothing"


@pytest.mark.parametrize("tenant", [None, "acme"])
def test_giving_up_a_rotation_whose_key_came_into_use_may_die_at_any_call(
    world: World, operator: Operator, tenant: str | None
) -> None:
    died = 0
    for life in deaths():
        new = f"pk-the-new-one-{died:04}"
        world.panel.keys = {PROVIDER_KEY, new}
        if tenant is not None:
            tenant = f"own-{died}"
            world.add_tenant(Tenant(id=tenant))
        runs = replace(operator, account=Account("smosale", tenant))
        with pytest.raises(Killed):
            runs.rotate(new, Life(until=PROMOTES, is_done=True))
        if tenant is not None:
            world.registry.set_own_key(tenant, "smosale", is_used=True)
        try:
            runs.roll_back(life)
        except Killed:
            died += 1
            with contextlib.suppress(Failure):  # it may have been done
                runs.roll_back()
        assert runs.used().value == PROVIDER_KEY
        check_record(world, runs.account)
        if life.last >= len(life.calls):
            break
    assert died > 10, "it hardly ever died: this showed nothing"


@pytest.mark.parametrize("command", ["rollback", "rotate"])
def test_a_key_that_came_into_use_although_it_was_given_up_is_taken_out_of_use(
    world: World, operator: Operator, command: str
) -> None:
    """One command gave it up, and the one that promoted it meanwhile died before it saw that."""
    new, vault, old = "pk-the-new-one-1", world.parts.vault, world.parts.vault.key(SMOSALE)
    begun = operator.work().begin(new, token=None, other_account=False)
    operator.roll_back()
    vault.promote(SMOSALE, begun.version)
    if command == "rollback":
        operator.roll_back()
        assert current(world) == PROVIDER_KEY
    else:
        world.panel.keys |= {new}
        assert operator.rotate(new).before == old.version
    check_record(world)


@pytest.mark.parametrize("command", ["rollback", "rotate"])
def test_a_key_of_another_account_is_not_taken_out_of_use_late_without_a_question(
    world: World, operator: Operator, command: str
) -> None:
    """It was given up and promoted by two commands that died, and an order was bought with it meanwhile."""
    new, third = "pk-of-another-account", "pk-the-new-one-3"
    world.panel.keys |= {new, third}
    begun = operator.work().begin(new, token=None, other_account=True)
    operator.roll_back()
    world.parts.vault.promote(SMOSALE, begun.version)
    world.add(parts=world.twin())

    def act(*, is_sure: bool) -> None:
        work = operator.work()
        work.is_sure = is_sure
        if command == "rollback":
            work.roll_back()
        else:
            work.finish(work.begin(third, token=None, other_account=False), third)

    with pytest.raises(click.UsageError, match="--yes"):
        act(is_sure=False)
    assert current(world) == new
    act(is_sure=True)
    assert current(world) == (PROVIDER_KEY if command == "rollback" else third)
    check_record(world)


def test_a_key_of_another_account_that_is_taken_out_of_use_late_leaves_its_marks_behind(
    world: World, operator: Operator
) -> None:
    new, accounts = "pk-of-another-account", world.parts.following.accounts
    begun = operator.work().begin(new, token=None, other_account=True)
    operator.roll_back()
    world.parts.vault.promote(SMOSALE, begun.version)
    world.time.at += HOUR
    mark = Mark(at=world.time.at, balance=Decimal(1), top=0, top_after=0, charges={}, unsettled=frozenset())
    accounts.add(SMOSALE, mark, until=world.time.at + SECOND)
    assert list(accounts.marks(SMOSALE)) == [mark]
    operator.roll_back()
    assert list(accounts.marks(SMOSALE)) == []


def test_a_first_own_key_that_was_given_up_at_any_call_can_be_given_again(world: World, operator: Operator) -> None:
    died, own = 0, "pk-own-key-of-a-tenant"
    world.panel.keys |= {own}
    for life in deaths():
        tenant = f"own-{life.last}-{life.is_done}".lower()
        world.add_tenant(Tenant(id=tenant))
        given = replace(operator, account=Account("smosale", tenant))
        with contextlib.suppress(Killed):
            given.rotate(own, life)
        if life.last >= len(life.calls):
            break
        died += 1
        with contextlib.suppress(Failure):  # nothing may have been begun
            given.roll_back()
        given.rotate(own)
        assert world.twin().vault.key(given.account).value == own
        assert world.registry.tenant(tenant).own_keys == {"smosale"}
        check_record(world, given.account)
    assert died > 40, "it hardly ever died: this showed nothing"


def test_another_key_does_not_push_an_unfinished_rotation_aside(world: World, operator: Operator) -> None:
    life = Life()
    world.panel.keys |= {"pk-the-new-one-1", "pk-the-new-one-2"}
    work = operator.work(life)
    work.begin("pk-the-new-one-1", token=None, other_account=False)
    with pytest.raises(Failure, match="A rotation to another key is not finished"):
        operator.rotate("pk-the-new-one-2")
    with pytest.raises(Failure, match="A rotation to another key is not finished"):
        operator.work().begin("pk-the-new-one-2", token="2" * 32, other_account=False)
    operator.rotate("pk-the-new-one-1")
    operator.rotate("pk-the-new-one-2")
    assert current(world) == "pk-the-new-one-2"


def test_a_rotation_that_is_only_watched_gives_way_to_the_next_whatever_call_that_dies_at(
    world: World, operator: Operator
) -> None:
    """The machine sleeps in the watch; the new key leaks and is replaced at the panel, so that no other one works."""
    died, old = 0, PROVIDER_KEY
    for life in deaths():
        leaked, good = f"pk-a-leaked-one-{died:04}", f"pk-the-good-one-{died:05}"
        world.panel.keys = {old, leaked}
        dies_in_its_watch(world, operator, leaked)
        world.panel.keys = {good}
        try:
            operator.rotate(good, life)
        except Killed:
            died += 1
            operator.rotate(good)
        assert labels(world) == {CURRENT: good, PREVIOUS: leaked}
        check(world)
        check_record(world)
        old = good
        if life.last >= len(life.calls):
            break
    assert died > 40, "it hardly ever died: this showed nothing"


@pytest.mark.parametrize("other_account", [False, True])
def test_a_key_that_is_refused_ends_no_watch(world: World, operator: Operator, *, other_account: bool) -> None:
    """It was mistyped, or leaves open orders behind: the key that is watched is watched on, and rolled back from."""
    watched, mistyped = "pk-the-new-one-1", "pk-the-new-one-l"
    world.panel.keys = {PROVIDER_KEY, watched}
    world.add()
    dies_in_its_watch(world, operator, watched)
    world.panel.keys = {PROVIDER_KEY, mistyped} if other_account else {PROVIDER_KEY}
    with pytest.raises((Failure, click.UsageError), match="--yes" if other_account else "rejects the key"):
        operator.rotate(mistyped, other_account=other_account)
    assert operator.unfinished().step is Step.PROMOTED
    with pytest.raises(Failure, match="rejects the new key: the one before is in use again"):
        operator.rotate(watched)
    assert current(world) == PROVIDER_KEY
    check_record(world)


@pytest.mark.parametrize("token", [None, "7" * 32])
def test_a_key_whose_watch_was_cut_short_is_asked_for_when_it_is_given_again(
    world: World, operator: Operator, token: str | None
) -> None:
    """The key that came instead could not be stored, and the one that it came for may be dead by now."""
    watched = "pk-the-new-one-1"
    world.panel.keys = {PROVIDER_KEY, watched, "pk-the-new-one-2"}
    work = operator.work()
    begun = work.begin(watched, token=token, other_account=False)
    world.panel.behaviours["balance"] = WhenInUse(world, watched, die)
    with pytest.raises(Killed):
        work.finish(begun, watched)
    with pytest.raises(Killed):
        operator.rotate("pk-the-new-one-2", Life(until="put_secret_value"))
    operator.roll_back()
    world.panel.behaviours.pop("balance")
    world.panel.keys = {PROVIDER_KEY}
    with pytest.raises(Failure, match="rejects the key"):
        operator.work().begin(watched, token=token, other_account=False)
    world.panel.keys |= {watched}
    assert operator.work().begin(watched, token=token, other_account=False).step is Step.DONE


def test_a_watch_ends_when_another_key_comes(world: World, operator: Operator) -> None:
    watched, next_one = "pk-the-new-one-1", "pk-the-new-one-2"
    world.panel.keys |= {watched, next_one}
    world.panel.behaviours["balance"] = WhenInUse(world, watched, lambda: operator.rotate(next_one))
    with pytest.raises(Moved):
        operator.rotate(watched)
    assert labels(world) == {CURRENT: next_one, PREVIOUS: watched}
    check_record(world)


def test_the_token_of_a_watched_rotation_is_not_another_keys(world: World, operator: Operator) -> None:
    world.panel.keys |= {"pk-the-new-one-1", "pk-the-new-one-2"}
    dies_in_its_watch(world, operator, "pk-the-new-one-1")
    version = operator.unfinished().version
    with pytest.raises(Failure, match=f"The token {version} was used for another key"):
        operator.work().begin("pk-the-new-one-2", token=version, other_account=False)
    with pytest.raises(Failure, match="is not finished"):
        operator.work().begin("pk-the-new-one-1", token="1" * 32, other_account=False)
    assert operator.unfinished().version == version
    operator.rotate("pk-the-new-one-1")
    check_record(world)


def test_an_order_in_flight_keeps_the_version_it_was_sent_with(world: World, operator: Operator) -> None:
    world.panel.keys = {PROVIDER_KEY, "pk-the-new-one-1"}
    sent: list[str] = []

    def rotates_meanwhile(panel: Any, fields: dict[str, str]) -> Reply:
        sent.append(fields["key"])
        operator.rotate("pk-the-new-one-1")
        return Reply(200, {}, b'{"order":%d}' % panel.buy(fields))

    world.panel.behaviours["add"] = rotates_meanwhile
    before = world.twin().vault.key(SMOSALE).version
    receipt = world.add()
    order = world.parts.orders.get("acme", receipt.order)
    assert order is not None
    assert (sent, order.attempt.key_version) == ([PROVIDER_KEY], before)
    world.panel.keys = {"pk-the-new-one-1"}
    world.time.at += 16 * SECOND
    asked = len(world.panel.requests)
    assert not world.status(receipt.order).stale
    assert world.panel.requests[asked:][-1]["key"] == "pk-the-new-one-1"


def test_an_old_key_that_dies_before_the_promotion_fails_no_money_and_buys_nothing_twice(
    world: World, operator: Operator
) -> None:
    world.add()
    bought = len(world.panel.purchases)
    world.panel.keys = {"pk-the-new-one-1"}  # regenerated at the panel: the old one is dead at once
    with pytest.raises(Refusal) as refused:
        world.add(idempotency_key="k")
    assert (refused.value.status, refused.value.retry_after) == (503, 60)
    assert len(world.panel.purchases) == bought
    operator.rotate("pk-the-new-one-1")
    receipt = world.add(idempotency_key="k")
    assert not receipt.pending
    assert world.add(idempotency_key="k").order == receipt.order
    assert len(world.panel.purchases) == bought + 1


def test_a_note_of_a_rejection_rolls_back_where_the_key_before_works(world: World, operator: Operator) -> None:
    """A panel may answer `balance` to a key that may not order: then the traffic tells, and is served all the same."""
    new, bought = "pk-may-not-order-1", len(world.panel.purchases)
    world.panel.keys = {PROVIDER_KEY, new}

    def meets_traffic(panel: object, fields: dict[str, str]) -> Reply:
        if current(world) == new:
            check(world)
        return tells_a_balance(panel, fields)

    def refuses_new(panel: Any, fields: dict[str, str]) -> Reply:
        if fields["key"] == new:
            return Reply(200, {}, b'{"error":"Invalid API key"}')
        return Reply(200, {}, b'{"order":%d}' % panel.buy(fields))

    world.panel.behaviours |= {"balance": meets_traffic, "add": refuses_new}
    with pytest.raises(Failure, match="the one before is in use again"):
        operator.rotate(new)
    assert labels(world) == {CURRENT: PROVIDER_KEY, PREVIOUS: new}
    assert len(world.panel.purchases) > bought
    check_record(world)


def test_a_rotation_back_that_was_broken_off_is_ended_by_the_same_command(world: World, operator: Operator) -> None:
    """A key that only its orders are rejected for would prove itself once more, and be rejected once more."""
    new = "pk-may-not-order-1"
    world.panel.keys = {PROVIDER_KEY, new}
    dies_in_its_watch(world, operator, new)
    watched = operator.unfinished()
    operator.rotations.advance(watched, Step.ROLLING_BACK, by="a command that died", reason=REJECTED)
    with pytest.raises(Failure, match="rejects the new key: the one before is in use again"):
        operator.rotate(new)
    assert labels(world) == {CURRENT: PROVIDER_KEY, PREVIOUS: new}
    assert [one.version for one in operator.rotations.history(SMOSALE)] == [watched.version]
    check_record(world)


def test_a_key_may_be_rotated_to_again_after_the_operator_went_back_from_it(world: World, operator: Operator) -> None:
    new = "pk-the-new-one-1"
    world.panel.keys = {PROVIDER_KEY, new}
    operator.rotate(new)
    with pytest.raises(Killed):
        operator.roll_back(Life(until="update_secret_version_stage"))
    assert operator.unfinished().step is Step.ROLLING_BACK
    operator.rotate(new)
    assert labels(world) == {CURRENT: new, PREVIOUS: PROVIDER_KEY}
    check_record(world)


SENTENCES = [b"Invalid API key", b"Incorrect request or API key"]


@pytest.mark.parametrize("sentence", SENTENCES)
def test_one_odd_answer_is_no_reason_to_go_back(world: World, operator: Operator, sentence: bytes) -> None:
    new, odd = "pk-the-new-one-1", iter([b'{"error":"%s"}' % sentence])
    world.panel.keys |= {new}

    def is_odd_once(panel: object, fields: dict[str, str]) -> Reply:
        if fields["key"] != new or current(world) != new:
            return tells_a_balance(panel, fields)
        return Reply(200, {}, next(odd, b'{"balance":"100.84292","currency":"USD"}'))

    world.panel.behaviours["balance"] = is_odd_once
    assert operator.rotate(new).step is Step.DONE
    assert current(world) == new
    assert next(odd, None) is None
    check_record(world)


def test_one_note_of_a_rejection_is_no_reason_to_go_back(world: World, operator: Operator) -> None:
    """The order that met it was bought with the key before, as are all until the panel has said it twice."""
    new, bought = "pk-the-new-one-1", len(world.panel.purchases)
    world.panel.keys |= {new}
    odd = iter([Reply(200, {}, b'{"error":"Invalid API key"}')])
    world.panel.behaviours["add"] = lambda panel, fields: next(odd, None) or buys(panel, fields)
    world.panel.behaviours["balance"] = WhenInUse(world, new, lambda: check(world))
    assert operator.rotate(new).step is Step.DONE
    assert operator.rotations.rejected(SMOSALE, world.twin().vault.key(SMOSALE).version) is not None
    assert [one["key"] for one in world.panel.purchases[bought:]] == [PROVIDER_KEY]
    check_record(world)


def test_orders_that_are_refused_for_themselves_or_the_key_do_not_have_a_good_key_rolled_back(
    world: World, operator: Operator
) -> None:
    new = "pk-the-new-one-1"
    world.panel.keys |= {new}
    world.panel.behaviours["add"] = lambda _panel, _fields: Reply(200, {}, b'{"error":"Incorrect request or API key"}')

    def meets_traffic(panel: object, fields: dict[str, str]) -> Reply:
        if current(world) == new:
            for _ in range(3):
                world.time.at += SECOND
                with pytest.raises(Refusal):
                    world.add(parts=world.twin())
        return tells_a_balance(panel, fields)

    world.panel.behaviours["balance"] = meets_traffic
    assert replace(operator, watch=30).rotate(new).step is Step.DONE
    assert current(world) == new


def forgetful(world: World, new: str, left: Iterator[int]) -> World:
    """Return a world in which no version can be asked for once the new key is in use, as often as there is one left."""

    def forgets(name: str, request: dict[str, Any], call: Callable[[], Any]) -> Any:
        is_asked = name == "get_secret_value" and "VersionId" in request and current(world) == new
        if is_asked and next(left, None) is not None:
            raise store_error("InternalServiceError", 500)
        return call()

    return replace(world, secrets=Faulty(world.secrets, forgets))


def test_where_it_cannot_be_told_whether_the_key_before_works_it_is_looked_at_again(
    world: World, operator: Operator
) -> None:
    new, glitch = "pk-the-new-one-1", iter([Reply(500, {}, b"<html>")])
    world.panel.keys = {PROVIDER_KEY, new}
    rejects = Revoking(world, new)

    def stumbles(panel: object, fields: dict[str, str]) -> Reply:
        is_watched = fields["key"] == PROVIDER_KEY and current(world) == new
        return (next(glitch, None) if is_watched else None) or rejects(panel, fields)

    world.panel.behaviours["balance"] = stumbles
    left = iter(range(1))
    with pytest.raises(Failure, match="the one before is in use again"):
        replace(operator, world=forgetful(world, new, left), watch=60).rotate(new)
    assert next(left, None) is None
    assert next(glitch, None) is None
    assert labels(world) == {CURRENT: PROVIDER_KEY, PREVIOUS: new}
    check_record(world)


def test_a_key_before_that_cannot_be_told_to_work_is_not_gone_back_to(world: World, operator: Operator) -> None:
    new = "pk-the-new-one-1"
    world.panel.keys = {PROVIDER_KEY, new}
    world.panel.behaviours["balance"] = Revoking(world, new)
    with pytest.raises(Failure, match="no key before it is known to work: it stays in use"):
        replace(operator, world=forgetful(world, new, count())).rotate(new)
    assert current(world) == new
    check_record(world)
    operator.roll_back()
    assert current(world) == PROVIDER_KEY


def test_where_no_key_before_works_either_the_new_one_stays_and_that_is_told(world: World, operator: Operator) -> None:
    new = "pk-the-new-one-1"
    world.panel.keys = {new}
    world.panel.behaviours["balance"] = Revoking(world, new)
    with pytest.raises(Failure, match="no key before it is known to work: it stays in use"):
        operator.rotate(new)
    assert current(world) == new
    check_record(world)


def test_orders_that_are_ahead_at_a_busy_provider_fail_no_rotation(world: World, operator: Operator) -> None:
    """They wait up to 19 s for their slots."""
    new = "pk-the-new-one-1"
    provider = world.registry.change_provider("smosale", lambda stored: replace(stored, interval=SECOND))
    world.panel.keys |= {new}
    pace, latest = DynamoPace(world.parts.table), world.time.at + 25 * SECOND - ANSWER_TIME
    while pace.reserve(provider, holder="an order", latest=latest) is not None:
        pass
    operator.rotate(new)
    assert current(world) == new
