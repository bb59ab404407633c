"""An admitted caller, for the length of one request."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypeVar

from chalicelib.model import Order, Quota, Refill, Scope, Tenant
from chalicelib.purchase import Deadline

Thing = TypeVar("Thing", Order, Refill)


@dataclass(frozen=True, slots=True)
class Session:
    """Who calls, what they may do, and until when they wait."""

    tenant: Tenant
    scope: Scope
    quota: Quota
    deadline: Deadline

    def may_see(self, thing: Order | Refill) -> bool:
        """Say whether the key covers the provider of an order or a refill of its tenant."""
        return self.scope.providers is None or thing.provider in self.scope.providers

    def visible(self, things: Mapping[int, Thing]) -> Mapping[int, Thing]:
        """Return those of its tenant's orders or refills that the key covers."""
        return {number: thing for number, thing in things.items() if self.may_see(thing)}
