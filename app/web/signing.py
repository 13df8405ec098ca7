"""Signed, readable tokens: the session in the console's cookie, and the one-time sign-in link.

A token is `<payload>.<HMAC-SHA256>`, both base64url; the purpose goes into the signature, so that a ticket is
no session. Nothing in a payload is secret.
"""

import base64
import hashlib
import hmac
import os
import secrets
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import orjson

from app.settings import Environment, Settings

TICKET_LIFE = timedelta(minutes=10)
SECRET_FILE = "console.secret"  # noqa: S105 - a file's name
MAX_TOKEN = 1024
_TICKET = "ticket"


@dataclass(frozen=True, slots=True)
class Ticket:
    """A one-time sign-in: whose key it stands for, and the number that makes it single use."""

    key_id: str
    nonce: str
    expires_at: datetime


def signing_key(settings: Settings) -> bytes:
    """The key that signs sessions and tickets: `session_secret` where one is set.

    The default secret is printed in the source, so nothing is signed with it: development uses a random one, made
    once and kept in the data folder, readable by its owner only.
    """
    secret = settings.session_secret.get_secret_value()
    default = Settings.model_fields["session_secret"].default.get_secret_value()
    if settings.environment is Environment.PRODUCTION or secret != default:
        return secret.encode()
    return _kept_secret(settings.home / SECRET_FILE)


def _kept_secret(path: Path) -> bytes:
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    fresh = path.with_name(f"{path.name}.{secrets.token_hex(8)}")
    descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w") as file:
        file.write(secrets.token_urlsafe(32))
    try:
        # A link appears whole or not at all: of two processes that start together, one makes it and both read it.
        with suppress(FileExistsError):
            os.link(fresh, path)
    finally:
        fresh.unlink()
    return path.read_bytes()


def sign(key: bytes, purpose: str, payload: dict[str, Any]) -> str:
    body = _encode(orjson.dumps(payload))
    return f"{body}.{_encode(_mac(key, purpose, body))}"


def unsign(key: bytes, purpose: str, token: str) -> Any:
    """The payload; None where the token is not one that `sign` made with this key for this purpose."""
    body, _, signature = token.partition(".")
    if len(token) > MAX_TOKEN or not token.isascii():
        return None
    if not hmac.compare_digest(signature, _encode(_mac(key, purpose, body))):
        return None
    return orjson.loads(_decode(body))


def make_ticket(key: bytes, key_id: str, now: datetime) -> str:
    """A sign-in link's `ticket` for the API key with this id: good for 10 minutes and one use."""
    expires = int((now + TICKET_LIFE).timestamp())
    return sign(key, _TICKET, {"key": key_id, "nonce": secrets.token_urlsafe(16), "expires": expires})


def read_ticket(key: bytes, token: str, now: datetime) -> Ticket | None:
    """The ticket; None where it is forged or too old. Whether it was used before is for `Sessions` to say."""
    payload = unsign(key, _TICKET, token)
    if payload is None:
        return None
    ticket = Ticket(payload["key"], payload["nonce"], datetime.fromtimestamp(payload["expires"], UTC))
    return ticket if now < ticket.expires_at else None


def keyed_hash(key: bytes, purpose: str, text: str) -> str:
    """A value that only a holder of the key can derive from the text."""
    return _encode(_mac(key, purpose, text))


def _mac(key: bytes, purpose: str, text: str) -> bytes:
    return hmac.digest(key, f"{purpose}\0{text}".encode(), hashlib.sha256)


def _encode(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def _decode(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
