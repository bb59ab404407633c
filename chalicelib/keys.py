"""Keys: the client keys and browser tokens that we make, and the provider keys that we guard.

A client key is ``pg_live_<tenant>_<key id>_<secret><checksum>``, or ``pg_test_…`` for test mode: 256 random bits in
base 62 and a CRC-32 of all before it, so that junk costs no store read and scanners can tell our keys from noise. It
carries its tenant, so that one conditional update of the tenant's item authenticates it. Only its SHA-256 is stored: a
slow hash buys nothing against guessing 256 bits (reliability.md 2.11).

A browser token is made alike, as ``pgb_<tenant>_<token id>_<secret><checksum>``. It says nothing by itself: what it may
do stands in the store (decision 0014).
"""

import hashlib
import re
import secrets
import string
import zlib
from dataclasses import dataclass, field

from chalicelib.redaction import PIECE, learn

TENANT_ID = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,30}[a-z0-9])?")
_ALPHABET = string.digits + string.ascii_uppercase + string.ascii_lowercase
_SECRET_LENGTH = 43  # 62**43 > 2**256
_CHECKSUM_LENGTH = 6  # 62**6 > 2**32
_KEY_ID_LENGTH = 8


def _form(prefix: str) -> re.Pattern[str]:
    return re.compile(
        rf"(?P<head>{prefix}_(?P<tenant>{TENANT_ID.pattern})_(?P<id>[0-9A-Za-z]{{{_KEY_ID_LENGTH}}})"
        rf"_[0-9A-Za-z]{{{_SECRET_LENGTH}}})(?P<checksum>[0-9A-Za-z]{{{_CHECKSUM_LENGTH}}})"
    )


_LIVE_PREFIX, _TEST_PREFIX, _TOKEN_PREFIX = "pg_live", "pg_test", "pgb"
_CLIENT_KEY, _BROWSER_TOKEN = _form(f"(?:{_LIVE_PREFIX}|{_TEST_PREFIX})"), _form(_TOKEN_PREFIX)
# Shorter ones could occur in a reply by chance, and redacting them would garble it.
MIN_PROVIDER_KEY = PIECE
MAX_PROVIDER_KEY = 512


def _base62(number: int, length: int) -> str:
    digits = ""
    for _ in range(length):
        number, digit = divmod(number, 62)
        digits = _ALPHABET[digit] + digits
    return digits


def _checksum(head: str) -> str:
    return _base62(zlib.crc32(head.encode()), _CHECKSUM_LENGTH)


@dataclass(frozen=True, slots=True)
class ClientKey:
    """A client key that is well formed: whose it says it is, and its digest; the key itself is not kept.

    ``test``: it says that it is for test mode; what it says is true if its digest is that of a key that we made.
    """

    tenant: str
    id: str
    digest: bytes = field(repr=False)
    test: bool = False


@dataclass(frozen=True, slots=True)
class TokenKey:
    """A browser token that is well formed: whose it says it is, and its digest; the token itself is not kept."""

    tenant: str
    id: str
    digest: bytes = field(repr=False)


ShownKey = ClientKey | TokenKey


def parse_client_key(text: str) -> ClientKey | None:
    """Return the client key in ``text``, or None when its form or checksum is wrong (no store need be asked)."""
    parts = _parse(_CLIENT_KEY, text)
    return None if parts is None else ClientKey(*parts, test=text.startswith(_TEST_PREFIX))


def parse_browser_token(text: str) -> TokenKey | None:
    """Return the browser token in ``text``, or None when its form or checksum is wrong (no store need be asked)."""
    parts = _parse(_BROWSER_TOKEN, text)
    return None if parts is None else TokenKey(*parts)


def holds_key(text: str) -> bool:
    """Say whether something of the form of a client key or a browser token stands in a text."""
    return any(form.search(text) for form in (_CLIENT_KEY, _BROWSER_TOKEN))


def _parse(form: re.Pattern[str], text: str) -> tuple[str, str, bytes] | None:
    match = form.fullmatch(text)
    if match is None or _checksum(match["head"]) != match["checksum"]:
        return None
    return match["tenant"], match["id"], hashlib.sha256(text.encode()).digest()


def new_client_key(tenant: str, *, test: bool = False) -> str:
    """Return a fresh client key for a tenant, or for its test mode; it is shown once and only its digest is stored."""
    return _new(_TEST_PREFIX if test else _LIVE_PREFIX, tenant)


def new_browser_token(tenant: str) -> str:
    """Return a fresh browser token for a tenant; it is shown once and only its digest is stored."""
    return _new(_TOKEN_PREFIX, tenant)


def _new(prefix: str, tenant: str) -> str:
    key_id = "".join(secrets.choice(_ALPHABET) for _ in range(_KEY_ID_LENGTH))
    head = f"{prefix}_{tenant}_{key_id}_{_base62(secrets.randbits(256), _SECRET_LENGTH)}"
    return head + _checksum(head)


@dataclass(frozen=True, slots=True)
class ProviderKey:
    """The operator's key at a provider, with the Secrets Manager version that it came from."""

    value: str = field(repr=False)
    version: str

    def __post_init__(self) -> None:
        """Let the guard know it: no process has a provider key that is not taken out of its texts."""
        learn(self.value)


def check_provider_key(text: str) -> str:
    """Return a provider key as it came from standard input, without the line end.

    Raises:
        ValueError: it is empty, too short, too long or holds spaces or control characters.
    """
    value = text.strip("\r\n")
    if not MIN_PROVIDER_KEY <= len(value) <= MAX_PROVIDER_KEY:
        raise ValueError(f"a provider key has {MIN_PROVIDER_KEY} to {MAX_PROVIDER_KEY} characters")
    if not value.isascii() or not value.isprintable() or " " in value:
        raise ValueError("a provider key has printable ASCII characters only, without spaces")
    return value
