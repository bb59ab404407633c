"""How panels, libraries and exceptions spell a key, and what is left of one in a text."""

import base64
import html
import json
import re
from collections.abc import Callable, Collection, Mapping
from types import MappingProxyType
from urllib.parse import quote, quote_plus

from chalicelib.redaction import PIECE

SPELLED: Mapping[str, Callable[[str], str]] = MappingProxyType(
    {
        "raw": str,
        "capitals": str.upper,
        "small letters": str.lower,
        "backwards": lambda key: key[::-1],
        "URL": lambda key: quote(key, safe=""),
        "URL, small letters": lambda key: re.sub("%..", lambda escape: escape[0].lower(), quote(key, safe="")),
        "URL path": quote,
        "form": quote_plus,
        "JSON": lambda key: json.dumps(key)[1:-1],
        "JSON as PHP writes it": lambda key: json.dumps(key)[1:-1].replace("/", "\\/"),
        "JSON in JSON": lambda key: json.dumps(json.dumps(key)[1:-1])[1:-1],
        "HTML": html.escape,
        "HTML as PHP writes it": lambda key: html.escape(key).replace("&#x27;", "&#039;"),
        "repr": lambda key: repr(key)[1:-1],
        "hex": lambda key: key.encode().hex(),
        "base64": lambda key: base64.b64encode(key.encode()).decode(),
        "base64, after one byte": lambda key: base64.b64encode(b":" + key.encode() + b"/x").decode(),
        "base64, after two": lambda key: base64.b64encode(b"u:" + key.encode() + b"/xy").decode(),
        "base64 for URLs": lambda key: base64.urlsafe_b64encode(b"key=" + key.encode()).decode(),
    }
)

# Each letter of a key may be escaped, so that eight letters of these spellings are less than eight of the key.
ESCAPED: Mapping[str, Callable[[str], str]] = MappingProxyType(
    {
        "URL, each letter": lambda key: "".join(f"%{ord(letter):02X}" for letter in key),
        "URL in URL": lambda key: quote(quote(key, safe=""), safe=""),
        "JSON, each letter": lambda key: "".join(f"\\u{ord(letter):04x}" for letter in key),
        "JSON, a letter": lambda key: f"\\u{ord(key[0]):04X}" + json.dumps(key[1:])[1:-1],
        "HTML by numbers": lambda key: "".join(f"&#{ord(letter)};" for letter in key),
        "HTML by numbers of ten digits": lambda key: "".join(f"&#{ord(letter):010d};" for letter in key),
        "HTML by numbers without an end": lambda key: "".join(f"&#{ord(letter)}" for letter in key),
        "HTML by hex": lambda key: "".join(f"&#x{ord(letter):x};" for letter in key),
        "HTML by hex of eight digits": lambda key: "".join(f"&#x{ord(letter):08x};" for letter in key),
        "HTML in JSON": lambda key: json.dumps(html.escape(key))[1:-1],
    }
)


def pieces(text: str) -> set[str]:
    """Return the pieces of a text, but those that are words or numbers."""
    found = {text[start : start + PIECE] for start in range(len(text) - PIECE + 1)}
    return {piece for piece in found if not re.fullmatch(r"[a-z_-]+|[A-Z_-]+|[A-Z][a-z]+|[0-9]+", piece)}


def left_of(keys: Collection[str], text: str) -> set[str]:
    """Return which pieces of keys are in a text, in any spelling or backwards, or all of one with escaped letters."""
    wanted: set[str] = set()
    for key in keys:
        wanted |= pieces(key[::-1])
        for spelled in SPELLED.values():
            form = spelled(key)
            # Base64 wraps what stands around a key, which is no part of it.
            wanted |= pieces(form[6:-6] if re.fullmatch(r"[\w+/-]+=*", form) and form != key else form)
    # Not all pieces of the text, of which a log has millions; and once, whoever's they are.
    places = range(len(text) - PIECE + 1)
    found = {piece for start in places if (piece := text[start : start + PIECE]) in wanted}
    return found | {form for key in keys for spell in ESCAPED.values() if (form := spell(key)) in text}
