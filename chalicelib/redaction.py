"""Takes provider keys, and whatever looks like a key, out of texts: the last guard, whoever wrote them.

The guard is one for the process. It learns each provider key at the moment that the process has it
(``keys.ProviderKey``), and from then on knows it in every spelling in which panels, libraries and exceptions repeat it.

What operators read (logs, stored texts of panels, the journal, a command's failure) loses every piece of a key:
``redact``. What tenants read loses whole keys only: ``redact_whole``. A caller who could see which eight letters of its
own link disappear could guess a key piece by piece (docs/decisions/0016).
"""

import base64
import html
import json
import re
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import chain
from urllib.parse import quote, quote_plus

REDACTED = "[redacted]"
# So many characters of a key are a piece of it. Keys that are shorter could occur anywhere by chance, and are none.
PIECE = 8

# Keys of ours, and where a key stands by what is said before it. A URL's user may be a key, too.
_SHAPES = re.compile(
    r"pg(?:_live|_test|b)_[\w.~%+/=-]+"
    r"|(?i:(?<![\w-])(?:api_?key|api_token|key)=)[^\s&\"'<>;,]+"
    r"|(?i:\bbearer\s)\s*[^\s\"'<>;,]+"
    r"|(?<=://)[^/?#\s@\"]+@"
)
# A key may be made of words (`my-provider-key-1`); those alone are no piece of it, for they stand everywhere.
_WORDS = re.compile(r"[a-z_-]+|[A-Z_-]+|[A-Z][a-z]+|[0-9]+")
_ESCAPE = re.compile(r"%[0-9A-F]{2}")
# Without one of these a text has no such shape; they are found much sooner.
_SIGNS = ("pg_live_", "pg_test_", "pgb_", "key=", "token=", "bearer", "@")
# An escape, or a run of those that are quickly undone together: any letter may be written so, in JSON, URLs and HTML.
_ESCAPED = re.compile(
    r"""(?:\\u[0-9A-Fa-f]{4})+|(?:%[0-9A-Fa-f]{2})+|\\["'/\\]"""
    r"""|&(?:\#[0-9]{1,10};?|\#[xX][0-9A-Fa-f]{1,8};?|[A-Za-z]{2,8};)"""
)
_LAYERS = 4  # JSON in JSON, of HTML that was URL-encoded before
# A text with so many of them, those of all its layers together, is withheld whole: it is no catalog.
MAX_RUNS = 500_000
# Of each _STRIDE places in a text one is looked at; whatever is as long as a piece has _GRAM letters at one of them.
_STRIDE = 4
_GRAM = PIECE - _STRIDE + 1

Span = tuple[int, int]


class Guard:
    """What is known of keys, and how they are taken out."""

    def __init__(self) -> None:
        """Know none."""
        self._lock = threading.Lock()
        self._spellings: dict[str, tuple[str, ...]] = {}
        self._pieces: frozenset[str] = frozenset()  # words too
        self._grams: frozenset[str] = frozenset()

    def learn(self, secret: str) -> None:
        """Know a provider key from now on; one of fewer than ``PIECE`` characters is not kept."""
        if secret in self._spellings or len(secret) < PIECE:
            return
        with self._lock:
            forms = _forms(secret)
            pieces = {form[start : start + PIECE] for form in forms for start in range(len(form) - PIECE + 1)}
            self._grams |= {piece[start : start + _GRAM] for piece in pieces for start in range(_STRIDE)}
            self._pieces |= pieces
            self._spellings[secret] = forms

    def redact(self, text: str) -> str:
        """Return a text without any piece of a known key, in any spelling, and without what looks like a key."""
        text = self._without(text, self._wholes_and_runs)
        lower = text.lower()
        return _SHAPES.sub(REDACTED, text) if any(sign in lower for sign in _SIGNS) else text

    def redact_whole(self, text: str) -> str:
        """Return a text without the known keys, in any spelling."""
        return self._without(text, self._wholes)

    def redact_body(self, body: bytes) -> bytes:
        """Return a reply's body without the known keys; see ``redact_whole``."""
        text = body.decode("latin-1")
        redacted = self.redact_whole(text)
        return body if redacted is text else redacted.encode("latin-1")

    def _without(self, text: str, find: Callable[[str], list[Span]]) -> str:
        """Return a text without what ``find`` finds in it, or in what its escapes mean."""
        if len(text) < PIECE or not self._spellings:
            return text
        layers = _layers(text)
        if layers is None:
            return REDACTED
        spans = find(layers.pop())
        for layer in reversed(layers):
            spans = find(layer) + _sources(layer, spans)
        return _cut(text, spans)

    def _wholes(self, text: str) -> list[Span]:
        """Return where known keys stand in a text."""
        forms = chain.from_iterable(tuple(self._spellings.values()))
        return [span for form in forms if form in text for span in _occurrences(text, form)]

    def _wholes_and_runs(self, text: str) -> list[Span]:
        """Return where known keys stand in a text, or runs of letters in which each ``PIECE`` are a piece of a key."""
        starts = self._starts(text)
        if not starts:
            return []
        runs = [(start, start + PIECE) for start in starts if not _WORDS.fullmatch(text, start, start + PIECE)]
        return runs + self._wholes(text)

    def _starts(self, text: str) -> list[int]:
        """Return where pieces of keys begin in a text, be they words or not; without one there is no key either."""
        grams, pieces = self._grams, self._pieces
        near = [place for place in range(0, len(text) - _GRAM + 1, _STRIDE) if text[place : place + _GRAM] in grams]
        starts = (start for place in near for start in range(max(0, place - _STRIDE + 1), place + 1))
        return [start for start in starts if text[start : start + PIECE] in pieces]


_guard = Guard()
learn, redact, redact_whole, redact_body = _guard.learn, _guard.redact, _guard.redact_whole, _guard.redact_body


def redact_all(value: object, text: Callable[[str], str] = redact) -> object:
    """Return a value that JSON can hold, with ``text`` applied to each text in it, and to whatever else there is."""
    match value:
        case None | bool() | int() | float():
            return value
        case Mapping():
            return {text(str(name)): redact_all(inner, text) for name, inner in value.items()}
        case list() | tuple() | set() | frozenset():
            return [redact_all(inner, text) for inner in value]
        case _:
            return text(str(value))


def _layers(text: str) -> list[str] | None:
    """Return a text, then what it means once its escapes are undone, and so on; None if there are ``MAX_RUNS``."""
    layers, left = [text], MAX_RUNS
    while len(layers) <= _LAYERS and any(sign in layers[-1] for sign in "\\%&"):
        meant, runs = _ESCAPED.subn(_meaning, layers[-1], count=left)
        left -= runs
        if not left:
            return None
        if meant == layers[-1]:
            break
        layers.append(meant)
    return layers


def _meaning(escaped: re.Match[str]) -> str:
    """Return what a run of escapes means; beyond ASCII it need not be exact, for keys have no more."""
    text = escaped[0]
    if text[0] == "%":
        return bytes.fromhex(text.replace("%", "")).decode("latin-1")
    if text[0] == "&":
        return html.unescape(text)
    if text[1] == "u":
        return bytes.fromhex(text.replace(r"\u", "")).decode("utf-16-be", "surrogatepass")
    return text[1]


def _occurrences(text: str, part: str) -> Iterator[Span]:
    start = text.find(part)
    while start >= 0:
        end = start + len(part)
        yield start, end
        start = text.find(part, end)


def _sources(text: str, spans: list[Span]) -> list[Span]:
    """Return the places in ``text`` of what stands at ``spans`` once its escapes are undone."""
    merged = _merged(spans)
    letters = (place for start, end in merged for place in (start, end - 1))
    sources = list(_letters(text, letters)) if merged else []
    return [(first[0], last[1]) for first, last in zip(sources[::2], sources[1::2], strict=True)]


def _letters(text: str, places: Iterable[int]) -> Iterator[Span]:
    """Yield where in ``text`` some letters stand, counted upwards with its escapes undone; a run of those is one."""
    runs = _ESCAPED.finditer(text)
    run = next(runs, None)
    longer = 0  # by so much is the text longer up to here than what it means
    for place in places:
        while run is not None and (after := run.start() - longer + len(_meaning(run))) <= place:
            longer = run.end() - after
            run = next(runs, None)
        if run is not None and run.start() - longer <= place:
            yield run.span()
        else:
            yield place + longer, place + longer + 1


def _merged(spans: list[Span]) -> list[Span]:
    """Return spans in order, those that touch as one."""
    merged: list[Span] = []
    for start, end in sorted(spans):
        if merged and start <= merged[-1][1]:
            merged[-1] = (merged[-1][0], max(end, merged[-1][1]))
        else:
            merged.append((start, end))
    return merged


def _cut(text: str, spans: list[Span]) -> str:
    if not spans:
        return text
    edges = [0, *chain.from_iterable(_merged(spans)), len(text)]
    return REDACTED.join(text[start:end] for start, end in zip(edges[::2], edges[1::2], strict=True))


def _forms(key: str) -> tuple[str, ...]:
    """Return the spellings in which a key may be repeated, the longest first."""
    in_json, in_url = json.dumps(key)[1:-1], quote(key, safe="")
    undone = key
    for _ in range(_LAYERS):
        undone = _ESCAPED.sub(_meaning, undone)
    forms = {
        key,
        key.upper(),
        key.lower(),
        key[::-1],
        undone,  # a key may itself look like something escaped
        in_url,
        _ESCAPE.sub(lambda escape: escape[0].lower(), in_url),
        quote(key),
        quote_plus(key),
        in_json,
        in_json.replace("/", "\\/"),  # as PHP writes it
        json.dumps(in_json)[1:-1],  # JSON in JSON
        html.escape(key),
        html.escape(key).replace("&#x27;", "&#039;"),  # as PHP writes it
        repr(key)[1:-1],
        key.encode().hex(),
        *_in_base64(key.encode()),
    }
    return tuple(sorted((form for form in forms if len(form) >= PIECE), key=len, reverse=True))


def _in_base64(key: bytes) -> set[str]:
    """Return what a key becomes in base64, wherever it stands: the letters that depend on it alone."""
    forms = set[str]()
    for before in range(3):
        encoded = base64.b64encode(bytes(before) + key).decode()
        alone = encoded[-(-8 * before // 6) : 8 * (before + len(key)) // 6]
        forms |= {alone, alone.translate(str.maketrans("+/", "-_"))}
    return forms
