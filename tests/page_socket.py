"""A page without a browser: what Streamlit's own script says over its websocket, said by a test.

A rerun sends the page's name, its query and the widgets' values (`ClientState`), and the answer is a stream of elements
(`ForwardMsg`) that ends with "script finished". Whoever attacks speaks this, and whoever saves does.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from websockets.sync.client import ClientConnection, connect

if TYPE_CHECKING:
    from streamlit.proto.ForwardMsg_pb2 import ForwardMsg
    from streamlit.proto.WidgetStates_pb2 import WidgetState

ANSWER_SECONDS = 60.0
MESSAGE_BYTES_MOST = 1 << 28


class PageSocket:
    """One tab. url: of the site. cookies: by name. query: of the page as the server last changed it.
    pages: names of the pages that its menu shows; shown: the one that was drawn. elements: what it holds now,
    each with the path at which it stands. Raises OSError or a websockets exception
    where the server is gone, TimeoutError where nothing comes.
    """

    def __init__(self, url: str, cookies: Mapping[str, str], *, origin: str | None = None) -> None:
        parts = urlsplit(url)
        self.url = url
        self.query = ""
        self.elements: dict[tuple[int, ...], Any] = {}
        self.pages: frozenset[str] = frozenset()
        self.shown = ""
        self._page = ""
        self._values: dict[str, WidgetState] = {}
        self.socket: ClientConnection = connect(
            f"ws://{parts.netloc}/_stcore/stream",
            origin=origin or f"http://{parts.netloc}",  # type: ignore[arg-type]
            additional_headers={"Cookie": "; ".join(f"{name}={value}" for name, value in cookies.items())},
            subprotocols=["streamlit"],  # type: ignore[list-item]
            max_size=MESSAGE_BYTES_MOST,
            compression=None,
            open_timeout=ANSWER_SECONDS,
            ping_interval=None,  # a browser asks for no sign of life, and waits
        )

    def __enter__(self) -> PageSocket:
        return self

    def __exit__(self, *_: object) -> None:
        self.socket.close()

    def open(self, page: str, query: str = "") -> PageSocket:
        """The page of this name, "" for the first one, from its beginning."""
        self._page, self.query = page, query
        self._values.clear()
        return self.rerun()

    def act(self, values: Mapping[str, Any] | None = None, *, press: str = "", fragment: str = "") -> PageSocket:
        """A rerun with new values of widgets by id, and a button pressed: `press` is its id."""
        for widget, value in (values or {}).items():
            self._values[widget] = _state(widget, value)
        return self.rerun(press, fragment)

    def rerun(self, press: str = "", fragment: str = "") -> PageSocket:
        """Runs the page as it is and waits until that is over."""
        from streamlit.proto.BackMsg_pb2 import BackMsg  # not while tests are collected
        from streamlit.proto.WidgetStates_pb2 import WidgetState

        message = BackMsg()
        state = message.rerun_script
        state.page_name, state.query_string, state.fragment_id = self._page, self.query, fragment
        state.context_info.timezone, state.context_info.url = "UTC", f"{self.url}/{self._page}?{self.query}"
        state.widget_states.widgets.extend(self._values.values())
        if press:
            state.widget_states.widgets.append(WidgetState(id=press, trigger_value=True))
        self.socket.send(message.SerializeToString())
        self._receive(is_fragment=bool(fragment))
        return self

    def widget(self, kind: str, label: str) -> str:
        """The id of the first widget of this kind whose label begins so. Raises KeyError."""
        for one in self.of_kind(kind):
            if str(getattr(one, "label", "")).startswith(label):
                return str(one.id)
        raise KeyError(f"{kind} {label!r}: {self.text[:2000]}")

    def of_kind(self, kind: str) -> Iterator[Any]:
        """Every element of a kind, as its message."""
        for element in self.elements.values():
            if element.WhichOneof("type") == kind:
                yield getattr(element, kind)

    @property
    def text(self) -> str:
        """What a person could read, in the order of the page."""
        words = []
        for _, element in sorted(self.elements.items()):
            kind = element.WhichOneof("type")
            body = getattr(element, kind) if kind else None
            words += [str(getattr(body, name)) for name in ("body", "label", "message") if hasattr(body, name)]
        return " ".join(word for word in words if word)

    def _receive(self, *, is_fragment: bool) -> None:
        from streamlit.proto.ForwardMsg_pb2 import ForwardMsg

        deadline = time.monotonic() + ANSWER_SECONDS
        while True:
            data = self.socket.recv(timeout=max(0.01, deadline - time.monotonic()))
            message = ForwardMsg()
            message.ParseFromString(data if isinstance(data, bytes) else data.encode())
            kind = message.WhichOneof("type")
            if kind == "new_session" and not is_fragment:
                self.elements.clear()
            elif kind == "delta":
                self._place(message)
            elif kind == "page_info_changed":
                self.query = message.page_info_changed.query_string
            elif kind == "navigation":
                names = {  # the page where one arrives has no name of its own in addresses
                    page.page_script_hash: page.url_pathname or page.page_name.lower().replace(" ", "_")
                    for page in message.navigation.app_pages
                }
                is_hidden = {page.page_script_hash: page.is_hidden for page in message.navigation.app_pages}
                self.pages = frozenset(name for key, name in names.items() if not is_hidden[key])
                self.shown = self._page = names.get(message.navigation.page_script_hash, self._page)
            elif kind == "script_finished":
                if message.script_finished != ForwardMsg.FINISHED_EARLY_FOR_RERUN:
                    return
                self.elements.clear()

    def _place(self, message: ForwardMsg) -> None:
        path = tuple(message.metadata.delta_path)
        if message.delta.WhichOneof("type") == "new_element":
            self.elements[path] = message.delta.new_element
        else:  # a block takes the place of whatever was there
            for place in [place for place in self.elements if place[: len(path)] == path]:
                del self.elements[place]


def _state(widget: str, value: Any) -> WidgetState:
    from streamlit.proto.WidgetStates_pb2 import WidgetState

    state = WidgetState(id=widget)
    if isinstance(value, bool):
        state.bool_value = value
    elif isinstance(value, int):
        state.int_value = value
    elif isinstance(value, str):
        state.string_value = value
    elif isinstance(value, dict):
        state.json_value = json.dumps(value)
    elif value and isinstance(value[0], str):
        state.string_array_value.data.extend(value)
    else:
        state.int_array_value.data.extend(value)
    return state
