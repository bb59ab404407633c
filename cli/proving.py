"""What proves a provider key: it opens an account, and the same one as the key that is in use."""

from dataclasses import dataclass, field, replace
from typing import Any

from chalicelib.actions import Answer, Balance, Call, GetBalance, GetStatus, Reason, Refused, Status
from chalicelib.calling import Caller, OneKeyVault, Window, dialect_of
from chalicelib.clock import SECOND
from chalicelib.errors import PanelgateError
from chalicelib.keys import ProviderKey
from chalicelib.model import Provider
from chalicelib.ports import Pace
from chalicelib.wiring import Parts
from cli.console import Console, Failure
from cli.text import cell, plain

SLOT_TIME = 25 * SECOND
"""How long a command waits for the provider's pace, in µs: orders may be ahead of it by up to 19 s."""
REPLY_TIME = 15 * SECOND
LOOKS = 3
"""So often balances are compared before they are said to be of two accounts: a refund may come between two of them."""

SENTENCES = {
    Reason.BAD_KEY: "rejects the key",
    Reason.KEY_OR_REQUEST: "rejects the key",  # there is nothing wrong with what we ask
    Reason.THROTTLED: "says that it is asked too often: try again in a minute",
}


class Rejected(Failure):
    """The panel does not take the key."""


class Unreadable(Rejected):
    """There is no key that could be asked with, which is as good as one that the panel does not take."""


@dataclass
class Question:
    """One call to a panel from the command line, and how long its answer took."""

    caller: Caller
    provider: Provider
    call: Call
    sent: int = field(default=0, init=False)
    milliseconds: int = field(default=0, init=False)

    def ask(self) -> Answer:
        """Return the panel's answer.

        Raises:
            Rejected: the panel does not take the key.
            Failure: there is no answer, or it is a refusal.
        """
        answer = self.answer()
        if isinstance(answer, Refused):
            sentence = SENTENCES.get(answer.reason) or f"refuses: {cell(answer.text)[:200]}"
            failure = Rejected if answer.reason in (Reason.BAD_KEY, Reason.KEY_OR_REQUEST) else Failure
            raise failure(f"{self.provider.slug} {sentence}.")
        return answer

    def answer(self) -> Answer:
        """Return the panel's answer, which may be a refusal.

        Raises:
            Failure: there is none.
        """
        clock = self.caller.clock
        end = clock.now() + SLOT_TIME
        window = Window(slot_by=end, send_by=end + REPLY_TIME // 2, deadline=end + REPLY_TIME)
        try:
            answer = self.caller.ask(self.provider, self.call, window, before=self._note_start)
        except PanelgateError as error:
            raise Failure(f"{self.provider.slug} cannot be asked: {cell(str(error))}.") from None
        self.milliseconds = (clock.now() - self.sent) // 1000
        return answer

    def _note_start(self, _key: ProviderKey, _number: int) -> None:
        self.sent = self.caller.clock.now()


def prove(console: Console, provider: Provider, key: ProviderKey, *, pace: Pace | None = None) -> Balance:
    """Return the balance of the account that a key opens.

    Raises:
        Rejected: the provider does not take the key.
        Failure: the provider gives no balance for it.
    """
    caller = _caller(console.parts, key)
    answer = Question(replace(caller, pace=pace or caller.pace), provider, GetBalance()).ask()
    if not isinstance(answer, Balance):
        raise Failure(f"{provider.slug} does not answer what was asked.")
    return answer


def told(balance: Balance) -> dict[str, Any]:
    """Return a balance as commands and records tell it."""
    return {"balance": plain(balance.amount), "currency": balance.currency}


def _caller(parts: Parts, key: ProviderKey) -> Caller:
    return Caller(parts.caller.pace, OneKeyVault(key), parts.sender, parts.clock)


@dataclass(frozen=True, slots=True)
class Comparison:
    """A new key at a provider, and the one that is in use there; None if that cannot be read."""

    console: Console
    provider: Provider
    new: ProviderKey
    old: ProviderKey | None

    def prove(self) -> dict[str, Any]:
        """Return what shows that the new key opens the same account as the old one.

        Where the panel still takes the old one, the balance that it tells the new one lies between two that it tells
        the old one before and after; balances alone may agree by chance. Our latest order there is known to the new
        key, if it is known at all. Where the panel rejects the old one that is all there is, and where it answers the
        old one with something else it must be.

        Raises:
            Rejected: the panel does not take the new key.
            Failure: it is the key of another account, or that cannot be told.
        """
        balance, trouble = self._compare_balances()
        order = self._latest_order()
        shown = order is not None and self._shows_same(order, None if trouble else self.old)
        if trouble and not shown and not isinstance(trouble, Rejected):
            raise Failure(
                f"{self.provider.slug} takes the new key, but the key in use cannot be asked"
                f" ({trouble.format_message().rstrip('.')}), and no order tells whether both open the same account."
                " Say --other-account to go without."
            )
        return {
            **told(balance),
            "old_key": _standing(trouble),
            "same_balance": trouble is None,
            "same_order": order if shown else None,
        }

    def are_of_one_account(self) -> bool:
        """Whether it is certain that the new key opens the old one's account: it is that key, or it knows our order."""
        if self.old is not None and self.new.value == self.old.value:
            return True
        order = self._latest_order()
        return order is not None and self._knows(self.new, order) is True

    def _compare_balances(self) -> tuple[Balance, Failure | None]:
        """Return the new key's balance, and what kept it from being compared with the old key's."""
        for _ in range(LOOKS):
            if isinstance(first := self._old_balance(), Failure):
                return prove(self.console, self.provider, self.new), first
            balance = prove(self.console, self.provider, self.new)
            if isinstance(last := self._old_balance(), Failure):
                return balance, last
            least, most = sorted((first.amount, last.amount))
            if least <= balance.amount <= most and first.currency == balance.currency:
                return balance, None
        raise self._other_account("its balance is another one")

    def _old_balance(self) -> Balance | Failure:
        if self.old is None:
            return Unreadable("there is no key that can be read")
        try:
            return prove(self.console, self.provider, self.old)
        except Failure as failure:
            return failure

    def _latest_order(self) -> int | None:
        found = next(self.console.parts.orders.bound(self.provider.account), None)
        return None if found is None or not dialect_of(self.provider).capabilities.can(GetStatus(0)) else found.number

    def _shows_same(self, order: int, good_old: ProviderKey | None) -> bool:
        """Whether the new key's account has an order of ours; False: neither key's has it, or the panel does not say.

        A panel may have forgotten it: that the new key does not know it tells something only if the old one does.
        """
        known = self._knows(self.new, order)
        if known is False and (good_old is None or self._knows(good_old, order)):
            raise self._other_account(f"it does not know our order {order}")
        return known is True

    def _knows(self, key: ProviderKey, order: int) -> bool | None:
        answer = Question(_caller(self.console.parts, key), self.provider, GetStatus(order)).answer()
        match answer:
            case Status():
                return True
            case Refused(reason=Reason.ORDER):
                return False
            case _:
                return None

    def _other_account(self, cause: str) -> Failure:
        return Failure(
            f"This is the key of another account at {self.provider.slug}: {cause}."
            " Say --other-account if that is what you want."
        )


def _standing(trouble: Failure | None) -> str:
    match trouble:
        case None:
            return "works"
        case Unreadable():
            return "unreadable"
        case Rejected():
            return "rejected"
    return "unknown"
