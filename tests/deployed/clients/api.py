"""A client of the classic panel protocol, with nothing but the standard library."""

import json
import sys
from collections.abc import Iterable, Mapping
from typing import Any
from urllib.error import HTTPError
from urllib.parse import quote_plus
from urllib.request import Request, urlopen


class Api:
    """One account at one panel."""

    def __init__(self, url: str, key: str) -> None:
        self.url = url
        self.key = key

    def order(self, data: Mapping[str, Any]) -> Any:
        return self._ask("add", **data)

    def status(self, order: int) -> Any:
        return self._ask("status", order=_id(order))

    def multiStatus(self, orders: Iterable[int]) -> Any:  # noqa: N802 - the name that the panels gave it
        return self._ask("status", orders=_ids(orders))

    def services(self) -> Any:
        return self._ask("services")

    def refill(self, order: int) -> Any:
        return self._ask("refill", order=_id(order))

    def multiRefill(self, orders: Iterable[int]) -> Any:  # noqa: N802 - likewise
        return self._ask("refill", orders=_ids(orders))

    def refillStatus(self, refill: int) -> Any:  # noqa: N802 - likewise
        return self._ask("refill_status", refill=_id(refill))

    def multiRefillStatus(self, refills: Iterable[int]) -> Any:  # noqa: N802 - likewise
        return self._ask("refill_status", refills=_ids(refills))

    def cancel(self, orders: Iterable[int]) -> Any:
        return self._ask("cancel", orders=_ids(orders))

    def balance(self) -> Any:
        return self._ask("balance")

    def _ask(self, action: str, **fields: object) -> Any:
        pairs = {"key": self.key, "action": action, **fields}
        body = "&".join(f"{name}={quote_plus(str(value))}" for name, value in pairs.items())
        request = Request(self.url, body.encode(), {"Content-Type": "application/x-www-form-urlencoded"})  # noqa: S310 - http or https
        try:
            with urlopen(request) as reply:  # noqa: S310 - likewise
                return json.load(reply)
        except HTTPError as reply:  # the status means nothing here
            with reply:
                return json.load(reply)


def _id(value: object) -> int:
    if type(value) is not int:
        raise TypeError(f"an id is a whole number, and no {type(value).__name__}")
    return value


def _ids(values: Iterable[object]) -> str:
    return ",".join(str(_id(value)) for value in values)


def main() -> None:
    api = Api(*sys.argv[1:])
    json.dump([getattr(api, name)(*arguments) for name, *arguments in json.load(sys.stdin)], sys.stdout)


if __name__ == "__main__":
    main()
