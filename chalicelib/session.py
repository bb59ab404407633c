"""An admitted caller, for the length of one request."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypeVar

from chalicelib.model import Order, Quota, Refill, Scope, Tenant, Token
from chalicelib.purchase import Deadline

Thing = TypeVar("Thing", Order, Refill)


@dataclass(frozen=True, slots=True)
class Session:
    """Who calls, what they may do, and until when they wait; ``test``: with a key that is for test mode."""

    tenant: Tenant
    scope: Scope
    quota: Quota
    deadline: Deadline
    token: Token | None = None
    test: bool = False

    @property
    def audience(self) -> str | None:
        """Whose orders it makes and sees; None: all of its tenant's, as a program does."""
        return None if self.token is None else self.token.audience

    @property
    def claimant(self) -> str | None:
        """In whose name it takes idempotency keys; None: in that of its tenant's programs.

        A page outlives its tokens, so where those name no subject, all pages of a client are one.
        """
        if self.token is None or self.token.subject is not None:
            return self.audience
        return f"client {self.scope.client}"

    @property
    def sees_prices(self) -> bool:
        """Whether it is told balances, prices and charges."""
        return self.token is None or self.token.prices

    @property
    def services(self) -> frozenset[int] | None:
        """The public ids of what it may order; None: whatever there is."""
        listed = self.tenant.services
        if self.token is None or self.token.services is None:
            return listed
        return self.token.services if listed is None else listed & self.token.services

    def may_see(self, thing: Order | Refill) -> bool:
        """Say whether an order or a refill of its tenant is its own, and of a provider that the key covers."""
        if self.token is not None and thing.audience != self.token.audience:
            return False
        return self.scope.providers is None or thing.provider in self.scope.providers

    def visible(self, things: Mapping[int, Thing]) -> Mapping[int, Thing]:
        """Return those of its tenant's orders or refills that the key covers."""
        return {number: thing for number, thing in things.items() if self.may_see(thing)}
