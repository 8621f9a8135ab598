"""Secrets as the database holds them: encrypted under a key that is derived from the site's, another for each purpose.

A copy of the database without the key file tells nothing of them. Fernet is AES-128-CBC with HMAC-SHA256:
https://github.com/fernet/spec/blob/master/Spec.md
"""

from __future__ import annotations

import base64
import hashlib
import hmac

from cryptography.fernet import Fernet, InvalidToken


def seal(site_key: bytes, purpose: str, content: bytes) -> str:
    """The content as the database has it. purpose: what it is, in words; the same words open it."""
    return _cipher(site_key, purpose).encrypt(content).decode()


def unseal(site_key: bytes, purpose: str, sealed: str) -> bytes | None:
    """The content again; None for what was not sealed with this key for this purpose."""
    try:
        return _cipher(site_key, purpose).decrypt(sealed.encode())
    except InvalidToken:
        return None


def _cipher(site_key: bytes, purpose: str) -> Fernet:
    return Fernet(base64.urlsafe_b64encode(hmac.new(site_key, purpose.encode(), hashlib.sha256).digest()))
