"""Browser tokens: short-lived children of a client key, never wider than it (decision 0014)."""

from dataclasses import dataclass, field, replace

from chalicelib import money
from chalicelib.actions import Action
from chalicelib.clock import SECOND, Clock
from chalicelib.commands import TokenCommand
from chalicelib.errors import Code, Refusal, unknown_key
from chalicelib.keys import new_browser_token, parse_browser_token
from chalicelib.model import Token
from chalicelib.offering import Offering
from chalicelib.ports import Tokens
from chalicelib.session import Session


@dataclass(frozen=True, slots=True)
class Issued:
    """A new browser token, which is stored nowhere and told once; ``expires`` in epoch µs."""

    token: str = field(repr=False)
    expires: int


@dataclass(frozen=True, slots=True)
class Issuing:
    """Makes browser tokens; everything it needs is handed in."""

    tokens: Tokens
    offering: Offering
    clock: Clock

    def issue(self, session: Session, command: TokenCommand) -> Issued:
        """Make a token that may do what is asked for, at most what its parent may, and no longer than that.

        Raises:
            Refusal: it would be wider than its parent; or the parent is gone.
        """
        self._check(session, command)
        text = new_browser_token(session.tenant.id)
        key = parse_browser_token(text)
        if key is None:
            raise ValueError("what was made here is no browser token")
        scope, expires = session.scope, self.clock.now() + command.ttl * SECOND
        token = Token(
            id=key.id,
            tenant=key.tenant,
            scope=replace(scope, actions=frozenset(command.actions)),
            expires=expires if scope.expires is None else min(expires, scope.expires),
            origin=command.origin,
            services=None if command.services is None else frozenset(command.services),
            max_charge=None if command.max_charge is None else money.micros(command.max_charge),
            subject=command.subject,
            prices=command.prices,
        )
        if not self.tokens.issue(token, key, until=session.deadline.record):
            raise unknown_key()
        return Issued(text, token.expires)

    def _check(self, session: Session, command: TokenCommand) -> None:
        for action in command.actions:
            if session.scope.actions is not None and action not in session.scope.actions:
                raise Refusal(Code.FORBIDDEN, f"This key may not use the action {action}, nor may a token of it")
        if Action.BALANCE in command.actions and not command.prices:
            message = "The action balance is only for a token with prices"
            raise Refusal(Code.INVALID_REQUEST, message, field="actions")
        if command.origin is not None and command.origin not in session.tenant.origins:
            raise Refusal(Code.FORBIDDEN, "This account does not list that origin", field="origin")
        for service in command.services or ():
            self.offering.find(session, service)
