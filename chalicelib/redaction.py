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
from collections.abc import Callable, Iterator, Mapping
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
_WORDS = re.compile(r"[a-z_-]+|[A-Z][a-z]+|[0-9]+")
_ESCAPE = re.compile(r"%[0-9A-F]{2}")


class Guard:
    """What is known of keys, and how they are taken out."""

    def __init__(self) -> None:
        """Know none."""
        self._lock = threading.Lock()
        self._spellings: dict[str, tuple[str, ...]] = {}
        self._pieces: set[str] = set()

    def learn(self, secret: str) -> None:
        """Know a provider key from now on; one of fewer than ``PIECE`` characters is not kept."""
        if secret in self._spellings or len(secret) < PIECE:
            return
        with self._lock:
            forms = _forms(secret)
            pieces = {form[start : start + PIECE] for form in forms for start in _starts(form)}
            self._pieces |= {piece for piece in pieces if not _WORDS.fullmatch(piece)}
            self._spellings[secret] = forms

    def redact(self, text: str) -> str:
        """Return a text without any piece of a known key, in any known spelling, and without what looks like a key."""
        return _SHAPES.sub(REDACTED, self._without_pieces(self.redact_whole(text)))

    def redact_whole(self, text: str) -> str:
        """Return a text without the known keys, in any known spelling."""
        for form in self._known():
            text = text.replace(form, REDACTED)
        return text

    def redact_body(self, body: bytes) -> bytes:
        """Return a reply's body without the known keys; see ``redact_whole``."""
        for form in self._known():
            body = body.replace(form.encode(), REDACTED.encode())
        return body

    def _known(self) -> Iterator[str]:
        return chain.from_iterable(tuple(self._spellings.values()))

    def _without_pieces(self, text: str) -> str:
        """Return a text without the runs of letters in which each ``PIECE`` of them are a piece of a key."""
        kept: list[str] = []
        end = 0  # of the last run
        for start in _starts(text):
            if text[start : start + PIECE] in self._pieces:
                if start > end or not kept:
                    kept += (text[end:start], REDACTED)
                end = start + PIECE
        return "".join((*kept, text[end:]))


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


def _starts(text: str) -> range:
    return range(len(text) - PIECE + 1)


def _forms(key: str) -> tuple[str, ...]:
    """Return the spellings in which a key may be repeated, the longest first."""
    in_json, in_url = json.dumps(key)[1:-1], quote(key, safe="")
    forms = {
        key,
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
