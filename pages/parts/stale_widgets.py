"""What a browser tab holds on the server ends with what it shows.

Streamlit forgets the value of a widget that a page does not draw any more, but not the widget: its callback, with the
arguments and whatever those hold, stays until the tab is closed. A reader who goes from study to study in one tab all
day would hold every study's pictures.
"""

from __future__ import annotations

from streamlit.runtime.state import session_state
from streamlit.runtime.state.session_state import SessionState, WStates


def install() -> None:
    """Once in a server, before the first page: a widget that was not drawn is forgotten whole, and so is its key."""
    forget_values, clean_up = WStates.remove_stale_widgets, SessionState._remove_stale_widgets
    if getattr(forget_values, "forgets_widgets", False):
        return

    def forget(self: WStates, active_widget_ids: frozenset[str], fragment_ids_this_run: list[str] | None) -> None:
        forget_values(self, active_widget_ids, fragment_ids_this_run)
        for widget_id, metadata in list(self.widget_metadata.items()):
            if session_state._is_stale_widget(metadata, active_widget_ids, fragment_ids_this_run):
                del self.widget_metadata[widget_id]

    def clean_up_and_forget_keys(self: SessionState, active_widget_ids: frozenset[str]) -> None:
        clean_up(self, active_widget_ids)
        for widget_id, key in list(self._key_id_mapper.id_key_mapping.items()):
            is_wanted_later = (
                widget_id in self._query_param_bound_widget_ids or self._persist_tracker.scope_of(widget_id) is not None
            )
            if widget_id not in self._new_widget_state.widget_metadata and not is_wanted_later:
                _forget_key(self, key, widget_id)

    forget.forgets_widgets = True  # type: ignore[attr-defined]
    WStates.remove_stale_widgets = forget  # type: ignore[method-assign]
    SessionState._remove_stale_widgets = clean_up_and_forget_keys  # type: ignore[method-assign]


def _forget_key(state: SessionState, key: str, widget_id: str) -> None:
    """A key may have gone over to another widget; then only the way back from this one is forgotten.

    A value that was written under the key in a run that ended before it drew the widget goes too. It is older than
    all that was filled in since, and would come back in its place.
    """
    mapper = state._key_id_mapper
    if mapper.get_id_from_key(key) == widget_id:
        mapper.delete(key)
        state._old_state.pop(key, None)
    else:
        mapper.id_key_mapping.pop(widget_id, None)
