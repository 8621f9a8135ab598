"""One-time codes of an authenticator (RFC 6238, on RFC 4226), and how their secret is kept.

SHA-1, six digits, thirty seconds: what every authenticator reads. The secret lies in the database under the site's
key, so that a copy of the database makes no codes.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import secrets
import time
from collections.abc import Sequence
from urllib.parse import quote

from core.records import sealed

STEP_SECONDS = 30
DIGITS = 6
CLOCK_STEPS = 1
"""How many steps a clock may be early or late."""
SECRET_BYTES = 20
RECOVERY_CODES = 10
PENDING_SECONDS = 300
_PURPOSE = "second factor secrets"


def code_at(secret: bytes, step: int, *, digits: int = DIGITS) -> str:
    """The code of one step: HOTP of RFC 4226, section 5.3, with the step as its counter."""
    mac = hmac.new(secret, step.to_bytes(8, "big"), hashlib.sha1).digest()
    at = mac[-1] & 0x0F
    number = int.from_bytes(mac[at : at + 4], "big") & 0x7FFFFFFF
    return str(number % 10**digits).zfill(digits)


def step_of(at: float) -> int:
    """The step of a time in seconds since 1970."""
    return int(at) // STEP_SECONDS


def matching_step(secret: bytes, code: str, *, at: float, after: int) -> int | None:
    """The step whose code this is, near `at` and later than the step used last (`after`); None for no such step.

    A code counts once: who reads it over a shoulder comes too late.
    """
    tidy = "".join(code.split())
    now = step_of(at)
    for step in range(now - CLOCK_STEPS, now + CLOCK_STEPS + 1):
        if step > after and hmac.compare_digest(code_at(secret, step).encode(), tidy.encode()):
            return step
    return None


def new_secret() -> bytes:
    return secrets.token_bytes(SECRET_BYTES)


def secret_text(secret: bytes) -> str:
    """For typing: base32 in groups of four."""
    text = base64.b32encode(secret).decode().rstrip("=")
    return " ".join(text[at : at + 4] for at in range(0, len(text), 4))


def address_of(secret: bytes, name: str, site: str) -> str:
    """What the QR code holds: https://github.com/google/google-authenticator/wiki/Key-Uri-Format"""
    issuer = quote(f"SecondRead {site}".strip(), safe="")
    text = base64.b32encode(secret).decode().rstrip("=")
    return f"otpauth://totp/{issuer}:{quote(name, safe='')}?secret={text}&issuer={issuer}"


def seal(site_key: bytes, secret: bytes) -> str:
    """The secret as the database keeps it."""
    return sealed.seal(site_key, _PURPOSE, secret)


def unseal(site_key: bytes, secret: str) -> bytes | None:
    """The secret again; None for what was not sealed with this key."""
    return sealed.unseal(site_key, _PURPOSE, secret)


def new_recovery_codes() -> list[str]:
    """Ten codes of 50 random bits, each good for one sign-in without the authenticator."""
    letters = "ABCDEFGHJKLMNPQRSTUVWXYZ23456789"
    return [
        "-".join("".join(secrets.choice(letters) for _ in range(5)) for _ in range(2)) for _ in range(RECOVERY_CODES)
    ]


def recovery_digest(site_key: bytes, code: str) -> str:
    """What is kept of a recovery code, as it is typed: without blanks, in any case."""
    tidy = "".join(code.split()).upper()
    return hmac.new(site_key, f"recovery code\n{tidy}".encode(), hashlib.sha256).hexdigest()


def pending_token(site_key: bytes, person_id: int, password_hash: str) -> str:
    """Says for five minutes that somebody has given the right password; it opens nothing without a code."""
    expires = int(time.time()) + PENDING_SECONDS
    return f"{person_id}.{expires}.{_pending_mac(site_key, person_id, expires, password_hash)}"


def pending_person(token: str) -> int | None:
    """Whom the token speaks of; nothing is checked yet."""
    who = token.partition(".")[0]
    return int(who) if who.isascii() and who.isdigit() and len(who) < 10 else None


def is_pending(site_key: bytes, token: str, person_id: int, password_hash: str) -> bool:
    """Whether the token is ours, not too old, and of the password that counts now."""
    parts: Sequence[str] = token.split(".")
    if len(parts) != 3 or not (parts[1].isascii() and parts[1].isdigit()) or len(parts[1]) > 12:
        return False
    expires = int(parts[1])
    mac = _pending_mac(site_key, person_id, expires, password_hash)
    return hmac.compare_digest(mac.encode(), parts[2].encode()) and 0 <= expires - time.time() <= PENDING_SECONDS


def _pending_mac(site_key: bytes, person_id: int, expires: int, password_hash: str) -> str:
    content = f"second factor pending\n{person_id}\n{expires}\n{password_hash}"
    return hmac.new(site_key, content.encode(), hashlib.sha256).hexdigest()
