"""After signing in one goes on to a page of our own on this very host, whatever was sent."""

from __future__ import annotations

import pytest

from core.server.going_on import CHOICES_MOST, address_of, address_of_referrer, handed_over


@pytest.mark.parametrize(
    ("referrer", "address"),
    [
        ("https://here/compare?a=x&said=locked&b=", "/compare?a=x&b="),
        ("https://elsewhere.example/compare", "/compare"),
        ("https://elsewhere.example//evil.example", "/"),
        ("https://here/..%2fapp", "/"),
        ("http://[", "/"),
        ("http://[::1/compare", "/"),
        ("", "/"),
        ("https://here/compare?" + "a" * (2 * CHOICES_MOST), "/"),
    ],
)
def test_a_referrer_leads_to_a_page_of_ours_or_to_the_first(referrer: str, address: str) -> None:
    assert address_of_referrer(referrer) == address


@pytest.mark.parametrize("page", ["", "//evil.example", "/compare", "compare/..", "Compare", "a" * 41, "read\r\nX: y"])
def test_a_page_that_is_none_of_ours_by_its_name_leads_to_the_first(page: str) -> None:
    assert address_of({"page": page, "choices": "a=b"}) == "/" and handed_over({"page": page}) == ""


def test_choices_are_encoded_anew_and_a_longer_query_is_left_away() -> None:
    assert address_of({"page": "compare", "choices": "a=b\r\nX: y"}) == "/compare?a=b%0D%0AX%3A+y"
    assert address_of({"page": "compare", "choices": "a=" + "b" * (CHOICES_MOST - 2)}) != "/compare"
    assert address_of({"page": "compare", "choices": "a=" + "b" * (CHOICES_MOST - 1)}) == "/compare"
    assert address_of({"page": "compare", "choices": "a=" + "é" * (CHOICES_MOST // 2)}) == "/compare"
