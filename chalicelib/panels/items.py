"""Takes a reply about several orders or refills apart.

The protocol answers a batch of statuses by an object keyed by id, and the other batches by an array whose items name
their id (protocol.md 1.2). Panels mix the two up and wrap both, and some answer a call about one order like one about
several. Here all of it becomes what the panel would say to a call about that one id.
"""

from collections.abc import Iterator, Mapping

from chalicelib.panels import reading

Part = tuple[int | None, object]


def parts(document: object, asked: tuple[int, ...], name: str) -> Mapping[int, object]:
    """Return what a reply says of each id, without the ids of which it says nothing.

    Args:
        document: the reply.
        asked: the ids that were asked for; what the reply says of others is left out.
        name: the field in which an item names its id.
    """
    for value in _wrappings(document, asked):
        if said := _said(list(_split(value, asked, name)), asked):
            return said
    return {}


def _wrappings(document: object, asked: tuple[int, ...]) -> Iterator[object]:
    inner = document.get("data") if isinstance(document, dict) else None
    if isinstance(inner, list) or _keyed(inner, asked):
        yield inner
    yield document


def _keyed(value: object, asked: tuple[int, ...]) -> bool:
    return isinstance(value, dict) and any(reading.identifier(key) in asked for key in value)


def _split(value: object, asked: tuple[int, ...], name: str) -> Iterator[Part]:
    if isinstance(value, list):
        yield from ((_named(item, name), item) for item in value)
    elif isinstance(value, dict) and _keyed(value, asked):
        yield from ((reading.identifier(key), item) for key, item in value.items() if _agrees(key, item, name))
    else:
        yield _named(value, name), value


def _named(item: object, name: str) -> int | None:
    numbers = (reading.identifier(layer.get(name)) for layer in reading.layers(item))
    return next((number for number in numbers if number is not None), None)


def _agrees(key: object, item: object, name: str) -> bool:
    return _named(item, name) in {None, reading.identifier(key)}


def _said(found: list[Part], asked: tuple[int, ...]) -> Mapping[int, object]:
    if len(found) == len(asked) == 1 and found[0][0] is None and isinstance(found[0][1], dict):
        # One was asked for, and one object without an id came back.
        return {asked[0]: found[0][1]}
    said = {number: part for number, part in found if number is not None and number in asked}
    # Of an id that is answered twice, and differently, nothing is known.
    return {number: part for number, part in said.items() if all(part == other for n, other in found if n == number)}
