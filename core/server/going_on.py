"""Where somebody goes on after signing in: to the page, with its choices, that their link pointed to.

The page that draws the sign-in form knows where the address points and sends it along in two fields. Nothing of them is
believed: what comes out is a path of one of our own pages on this very host, with a query, or else "/".
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from urllib.parse import parse_qsl, urlencode, urlsplit

FIELD_PAGE, FIELD_CHOICES, SAID = "page", "choices", "said"
"""Fields of the form and of the address of the second step; and what an address tells of a refusal."""
CHOICES_MOST = 6000
"""Characters of a query that is handed on; a longer one is left away."""
_PAGE = re.compile(r"[a-z_]{1,40}")


def address_of(fields: Mapping[str, str]) -> str:
    """The path and query that a form's fields name; "/" where they name no page."""
    page = fields.get(FIELD_PAGE, "")
    if not _PAGE.fullmatch(page):
        return "/"
    query = _query(fields.get(FIELD_CHOICES, ""))
    return f"/{page}?{query}" if query else f"/{page}"


def handed_over(fields: Mapping[str, str]) -> str:
    """The query by which the second step of signing in learns of them; "" where they name no page."""
    page = fields.get(FIELD_PAGE, "")
    if not _PAGE.fullmatch(page):
        return ""
    return "?" + urlencode({FIELD_PAGE: page, FIELD_CHOICES: _query(fields.get(FIELD_CHOICES, ""))})


def address_of_referrer(referrer: str) -> str:
    """The same from the address of the page that somebody came from, whose host the caller's answer does not keep."""
    try:
        parts = urlsplit(referrer if len(referrer) <= 2 * CHOICES_MOST else "")
    except ValueError:  # "http://[" is none
        return "/"
    return address_of({FIELD_PAGE: parts.path.strip("/"), FIELD_CHOICES: parts.query})


def _query(text: str) -> str:
    if len(text) > CHOICES_MOST:
        return ""
    try:
        pairs = parse_qsl(text, keep_blank_values=True, max_num_fields=200)
    except ValueError:
        return ""
    query = urlencode([(name, value) for name, value in pairs if name != SAID])
    return query if len(query) <= CHOICES_MOST else ""  # a letter beyond ASCII is encoded as several
