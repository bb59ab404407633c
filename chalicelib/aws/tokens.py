"""The browser tokens; see ``ports.Tokens``.

A token's item is written once, but for what its orders cost (``aws.wallet`` counts that). That its client was not
revoked stands in the tenant's item, so that admission sees it in the update that it makes anyway. It is written there
with the client's first token.
"""

import hmac
from typing import Any

from chalicelib.aws.directory import ISSUERS, scope, scope_attributes
from chalicelib.aws.table import ConditionFailed, Item, Table, TransactionRefused, Write
from chalicelib.clock import SECOND
from chalicelib.keys import TokenKey
from chalicelib.model import Scope, Token

# How long the item of an expired token is kept, for who wants to know what it was, in seconds.
_KEPT = 24 * 3600


class DynamoTokens:
    """Browser tokens in the table; see ``ports.Tokens``."""

    def __init__(self, table: Table) -> None:
        """Use ``table``."""
        self._table = table

    def find(self, key: TokenKey) -> Token | None:
        """Return the token that a caller shows, if there is such a one; it may have expired."""
        item = self._table.get(f"T#{key.tenant}", f"TOKEN#{key.id}")
        if item is None or not hmac.compare_digest(item["digest"], key.digest):
            return None
        return _token(key.tenant, item)

    def issue(self, token: Token, key: TokenKey, *, until: int) -> bool:
        """Store a token; False if the client key that asks for it is gone meanwhile."""
        pk = f"T#{token.tenant}"
        made = Write(pk, f"TOKEN#{token.id}", put=_item(token, key), condition="attribute_not_exists(pk)")
        try:
            if token.scope.issuer:
                # If the client is revoked meanwhile, its name goes, and the token is worth nothing.
                self._table.write(made, until=until)
            else:
                self._table.transact([made, _noted(token.scope, pk)], until=until)
        except ConditionFailed as failure:
            stored = failure.old
        except TransactionRefused as refused:
            stored = refused.failed.get(0)
        else:
            return True
        return stored is not None and stored["digest"] == key.digest  # our own write, whose reply was lost


def _noted(scope: Scope, pk: str) -> Write:
    """Return the write that makes a client an issuer, but not one that was revoked."""
    return Write(
        pk,
        "TENANT",
        update="ADD #issuers :clients",
        condition="#keys.#key.#client = :client",
        names={"#issuers": ISSUERS, "#keys": "keys", "#key": scope.key, "#client": "client"},
        values={":clients": {scope.client}, ":client": scope.client},
    )


def _item(token: Token, key: TokenKey) -> Item:
    return {
        "id": token.id,
        "digest": key.digest,
        "client": token.scope.client,
        **scope_attributes(token.scope),
        "expires": token.expires,
        "ttl": token.expires // SECOND + _KEPT,
        "origin": token.origin,
        "services": None if token.services is None else sorted(token.services),
        "max_charge": token.max_charge,
        "spent": 0,
        "subject": token.subject,
        "prices": token.prices,
    }


def _token(tenant: str, item: Item) -> Token:
    services: Any = item.get("services")
    return Token(
        id=item["id"],
        tenant=tenant,
        scope=scope(item, client=item["client"]),
        expires=item["expires"],
        origin=item.get("origin"),
        services=None if services is None else frozenset(services),
        max_charge=item.get("max_charge"),
        subject=item.get("subject"),
        prices=item["prices"],
    )
