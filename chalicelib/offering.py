"""What a tenant may order, under which id and at which price."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from operator import attrgetter

from chalicelib import money
from chalicelib.errors import Code, Refusal
from chalicelib.model import MAX_PROVIDER_NUMBER, Ids, Provider, Service, Tenant
from chalicelib.ports import Catalog, Providers
from chalicelib.session import Session

# What a caller is shown of a service whatever its price is.
_SHOWN = attrgetter(
    *(field.name for field in fields(Service) if field.name not in {"provider", "id", "rate", "active"})
)


@dataclass(frozen=True, slots=True)
class Offer:
    """A service as a tenant sees it: under its public id, at its price per 1000 in micro-USD."""

    id: int
    rate: int
    service: Service


@dataclass(frozen=True, slots=True)
class Offers:
    """The services that a tenant may order, by rising id from the cursor on; ``etag`` names this very list."""

    offers: Sequence[Offer]
    etag: str


def public_id(tenant: Tenant, provider: Provider, service: int) -> int:
    """Return the service id that a tenant sees (contract 7)."""
    return service if tenant.ids is Ids.NATIVE else provider.global_id(service)


def no_such_service() -> Refusal:
    """Return the refusal of a service that the caller may not use, whether there is one or not."""
    return Refusal(Code.SERVICE_NOT_FOUND, "There is no such service", field="service")


def digest(value: object) -> str:
    """Return what names a JSON value: equal values have equal digests."""
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()


@dataclass(frozen=True, slots=True)
class Offering:
    """The catalogs as tenants see them; everything it needs is handed in."""

    directory: Providers
    catalog: Catalog

    def providers(self, session: Session) -> Mapping[str, Provider]:
        """Return the enabled providers that both the tenant and the key may use, with the account that buys for it."""
        return {
            slug: provider.called_by(session.tenant.owner_at(slug))
            for slug, provider in self.directory.providers().items()
            if provider.enabled
            and (session.tenant.providers is None or slug in session.tenant.providers)
            and (session.scope.providers is None or slug in session.scope.providers)
        }

    def find(self, session: Session, number: int) -> tuple[Provider, Service, int]:
        """Return a service by its public id, with its provider and the caller's price per 1000 (micro-USD).

        Raises:
            Refusal: `service_not_found`: there is none, or the caller may not use it.
        """
        native = session.tenant.ids is Ids.NATIVE
        for provider in self.providers(session).values():
            own, owner = (number, provider.number) if native else divmod(number, MAX_PROVIDER_NUMBER + 1)
            if owner != provider.number or not _listed(session, number):
                continue
            service = self.catalog.service(provider.slug, own)
            if service is not None and service.active:
                rate = _rate(session.tenant, provider, service)
                if rate is not None:
                    return provider, service, rate
        raise no_such_service()

    def offers(self, session: Session, cursor: int) -> Offers:
        """Return what the caller may order, from the public id ``cursor`` on."""
        tenant, providers = session.tenant, self.providers(session)
        listings = self.catalog.listings(providers)
        offers = [
            Offer(number, rate, service)
            for slug, listing in listings.items()
            for service in listing.services
            if service.active
            and (number := public_id(tenant, providers[slug], service.id)) >= cursor
            and _listed(session, number)
            and (rate := _rate(tenant, providers[slug], service)) is not None
        ]
        offers.sort(key=lambda offer: offer.id)
        versions = {slug: [listing.version, str(providers[slug].fx)] for slug, listing in sorted(listings.items())}
        services = None if session.services is None else sorted(session.services)
        content = [versions, str(tenant.markup), tenant.ids, services, cursor]
        if not session.sees_prices:
            # What it is not shown must not count: who knows the panel's list would try out markups until one fits.
            content = [[offer.id, *_SHOWN(offer.service)] for offer in offers]
        return Offers(offers, digest(content)[:32])


def _rate(tenant: Tenant, provider: Provider, service: Service) -> int | None:
    """Return the tenant's price per 1000 in micro-USD, None where it is beyond all reason."""
    try:
        return money.tenant_rate(service.rate, markup=tenant.markup, fx=provider.fx)
    except ValueError:
        return None


def _listed(session: Session, number: int) -> bool:
    return session.services is None or number in session.services
