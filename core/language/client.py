"""One question to a language model over HTTP, by either protocol, with limits on time and size.

OpenAI's chat completions with an image as a data address and `response_format` json_schema:
https://platform.openai.com/docs/api-reference/chat. Gemini's `generateContent` with `inline_data` and `responseSchema`:
https://ai.google.dev/api/generate-content. Redirects lead nowhere, no proxy and no `.netrc` of the machine is used, and
errors are sentences of ours: nothing that a server says reaches a page or the log but words of the lexicon.
"""

from __future__ import annotations

import asyncio
import base64
import json
import logging
import math
import re
import ssl
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from typing import Any
from urllib.parse import quote

from core.errors import LanguageModelAway, LanguageModelRefused
from core.language.question import Question, checked
from core.records.language.endpoint import Endpoint, key_of, require_safe
from core.settings import MIB, Settings

for _name in ("httpx", "httpcore"):
    logging.getLogger(_name).setLevel(logging.CRITICAL + 1)  # they write addresses

CONNECT_SECONDS, READ_SECONDS = 5.0, 60.0
ANSWER_SECONDS = 120.0
"""For a whole answer, from looking up the name on, however slowly it drips."""
ANSWER_BYTES = MIB
"""Of an answer that has five words in it."""
RETRY_AFTER_MOST = 3600.0
_LATER = (401, 403, 408, 409, 425, 429)
"""Answers that an administrator of either side can cure, so that trying again helps; beside these every 5xx."""
_SERVED = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:/@+\-]{0,119}")


@dataclass(frozen=True, slots=True)
class Reply:
    """words: descriptor -> word of the lexicon. served_model: as the server calls it, "" where it does not say."""

    words: Mapping[str, str]
    served_model: str


def ask(
    endpoint: Endpoint, settings: Settings, question: Question, png: bytes, *, before_sending: Callable[[], object]
) -> Reply:
    """What the language model says of one picture.

    before_sending: is called right before anything is sent, and stops it by raising: there the permission is asked and
    the act is audited. Raises what it raises; LanguageModelAway where trying again may help; LanguageModelRefused
    for an answer that is none; InvalidInput for an address or a key that cannot be used.
    """
    require_safe(settings, endpoint.url)
    request = _REQUESTS[endpoint.protocol](endpoint, key_of(settings), question, png)
    before_sending()
    try:
        content = asyncio.run(asyncio.wait_for(_posted(request), ANSWER_SECONDS))
    except TimeoutError:
        raise LanguageModelAway("The language model answers too slowly. It is asked again later.") from None
    try:
        whole = json.loads(content)
        text, served = _TEXTS[endpoint.protocol](whole)
    except (ValueError, KeyError, IndexError, TypeError, AttributeError, RecursionError):
        raise LanguageModelRefused(
            "The language model answered with something that its protocol does not have."
        ) from None
    return Reply(checked(text), served if isinstance(served, str) and _SERVED.fullmatch(served) else "")


@dataclass(frozen=True, slots=True, repr=False)
class _Request:
    """Its `repr` shows nothing: the headers hold the key."""

    url: str
    headers: Mapping[str, str]
    content: bytes


def _openai(endpoint: Endpoint, key: str, question: Question, png: bytes) -> _Request:
    picture = f"data:image/png;base64,{base64.b64encode(png).decode()}"
    body = {
        "model": endpoint.model,
        "messages": [
            {"role": "system", "content": question.prompt},
            {"role": "user", "content": [{"type": "image_url", "image_url": {"url": picture}}]},
        ],
        "response_format": {
            "type": "json_schema",
            "json_schema": {"name": "birads_ultrasound", "strict": True, "schema": question.schema},
        },
    }
    headers = {"Authorization": f"Bearer {key}"} if key else {}
    return _Request(f"{endpoint.url}/chat/completions", headers, json.dumps(body).encode())


def _gemini(endpoint: Endpoint, key: str, question: Question, png: bytes) -> _Request:
    # Its schema is a part of OpenAPI's, which has no additionalProperties.
    schema = {name: value for name, value in question.schema.items() if name != "additionalProperties"}
    body = {
        "system_instruction": {"parts": [{"text": question.prompt}]},
        "contents": [
            {
                "role": "user",
                "parts": [{"inline_data": {"mime_type": "image/png", "data": base64.b64encode(png).decode()}}],
            }
        ],
        "generationConfig": {"responseMimeType": "application/json", "responseSchema": schema},
    }
    headers = {"x-goog-api-key": key} if key else {}  # in an address it would stand in logs on the way
    url = f"{endpoint.url}/models/{quote(endpoint.model, safe='')}:generateContent"
    return _Request(url, headers, json.dumps(body).encode())


_REQUESTS: Mapping[str, Callable[[Endpoint, str, Question, bytes], _Request]] = {"openai": _openai, "gemini": _gemini}


def _text_of_openai(whole: Any) -> tuple[str, Any]:
    choice = whole["choices"][0]
    message = choice["message"]
    if message.get("refusal") or choice.get("finish_reason") == "content_filter":
        raise LanguageModelRefused("The language model refused to answer.")
    return _text(message["content"]), whole.get("model")


def _text_of_gemini(whole: Any) -> tuple[str, Any]:
    if (whole.get("promptFeedback") or {}).get("blockReason"):
        raise LanguageModelRefused("The language model refused to answer.")
    candidate = whole["candidates"][0]
    if candidate.get("finishReason", "STOP") not in ("STOP", "FINISH_REASON_UNSPECIFIED"):
        raise LanguageModelRefused("The language model refused to answer, or did not come to its end.")
    parts = candidate["content"]["parts"]
    return "".join(_text(part["text"]) for part in parts if not part.get("thought")), whole.get("modelVersion")


_TEXTS: Mapping[str, Callable[[Any], tuple[str, Any]]] = {"openai": _text_of_openai, "gemini": _text_of_gemini}


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError
    return value


async def _posted(request: _Request) -> bytes:
    """The body of the answer. Raises LanguageModelAway, LanguageModelRefused."""
    import httpx  # some tenths of a second, and only where a site wants a language model

    timeout = httpx.Timeout(READ_SECONDS, connect=CONNECT_SECONDS)
    headers = {**request.headers, "Content-Type": "application/json", "Accept-Encoding": "identity"}
    try:
        async with (
            httpx.AsyncClient(verify=ssl.create_default_context(), trust_env=False, timeout=timeout) as client,
            client.stream("POST", request.url, headers=headers, content=request.content) as response,
        ):
            _require_answer(response.status_code, response.headers)
            pieces, n_bytes = [], 0
            async for piece in response.aiter_raw(64 * 1024):
                n_bytes += len(piece)
                if n_bytes > ANSWER_BYTES:
                    raise LanguageModelRefused("The language model's answer is far too long.")
                pieces.append(piece)
            return b"".join(pieces)
    except httpx.TimeoutException:
        raise LanguageModelAway("The language model answers too slowly. It is asked again later.") from None
    except (httpx.HTTPError, httpx.InvalidURL, OSError) as error:
        raise LanguageModelAway(
            f"The language model cannot be reached, or closed the connection ({type(error).__name__})."
        ) from None


def _require_answer(status: int, headers: Mapping[str, str]) -> None:
    if 300 <= status < 400:
        raise LanguageModelRefused("The language model's address leads elsewhere. Name the address that it leads to.")
    if status in (401, 403):
        raise LanguageModelAway(f"The language model does not let SecondRead in (HTTP {status}). Check the key.")
    if status >= 500 or status in _LATER:
        raise LanguageModelAway(
            f"The language model cannot answer now (HTTP {status}).", retry_after(headers.get("retry-after", ""))
        )
    if status != 200:
        raise LanguageModelRefused(f"The language model refused the question (HTTP {status}). Check address and model.")
    if headers.get("content-encoding", "identity").strip().lower() not in ("", "identity"):
        raise LanguageModelRefused("The language model's answer is packed, which was not asked for.")


def retry_after(value: str) -> float | None:
    """Seconds that a header asks to wait (RFC 9110 10.2.3), as a number or a date, at most `RETRY_AFTER_MOST`."""
    try:
        seconds = float(value) if re.fullmatch(r"\s*\d{1,9}\s*", value) else (
            parsedate_to_datetime(value).timestamp() - time.time()
        )  # fmt: skip
    except (ValueError, TypeError, OverflowError):
        return None
    return min(max(seconds, 0.0), RETRY_AFTER_MOST) if math.isfinite(seconds) else None
