"""Passwords: what is a usable one, how it is kept, and how it is compared."""

from __future__ import annotations

import secrets
import unicodedata
from contextlib import suppress
from functools import lru_cache

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError

NO_PASSWORD = "none"
"""In place of a hash: no password matches it."""
LENGTH = 12
LENGTH_MOST = 256
DIFFERENT_CHARACTERS = 5


def problem_with(password: str, name: str) -> str | None:
    """ "short", "same" or "simple", or None for a password that this person may have.

    Length is what counts (NIST SP 800-63B): no rule about digits or signs, which make worse passwords.
    """
    if not LENGTH <= len(password) <= LENGTH_MOST:
        return "short"
    if folded(password) == folded(name):
        return "same"
    if len(set(password)) < DIFFERENT_CHARACTERS:
        return "simple"
    return None


def hash_password(password: str) -> str:
    """Argon2id with RFC 9106's low-memory profile (64 MiB, 3 passes, 4 lanes), with its salt and parameters."""
    return _hasher().hash(_normal(password))


def matches(password_hash: str, password: str) -> bool:
    """Whether this is the password. Takes the same time for every answer, but for one that is too long to be any."""
    attempt = _normal(password[: LENGTH_MOST + 1])
    try:
        return _hasher().verify(password_hash, attempt)
    except InvalidHashError:  # somebody who has not set a password yet: the same work, so that it does not show
        with suppress(VerificationError):
            _hasher().verify(nobodys_hash(), attempt)
        return False
    except VerificationError:
        return False


def needs_rehash(password_hash: str) -> bool:
    """Whether today's parameters are other than those of this hash."""
    return _hasher().check_needs_rehash(password_hash)


@lru_cache(maxsize=1)
def nobodys_hash() -> str:
    """What the password of an unknown name is compared with, so that it takes as long as a known one."""
    return _hasher().hash(secrets.token_urlsafe(32))


def folded(text: str) -> str:
    """For comparing: without case, and with one form of each letter and space."""
    return " ".join(unicodedata.normalize("NFKC", text).casefold().split())


@lru_cache(maxsize=1)
def _hasher() -> PasswordHasher:
    return PasswordHasher()


def _normal(password: str) -> str:
    """Keyboards differ in how they write one letter; a password must not."""
    return unicodedata.normalize("NFKC", password)
