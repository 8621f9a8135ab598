"""Where the product's log goes: the terminal and one rotating file.

Log lines hold ids and sha256 sums, never names, file names, addresses with their query, or anything out of a file.
"""

from __future__ import annotations

import logging
import logging.handlers

from core.settings import Settings

PAGE_ERRORS = "secondread.page"
_WEBSOCKETS = "streamlit.web.server.starlette.starlette_websocket"
FORMAT = "%(asctime)s %(levelname)s %(name)s: %(message)s"


def configure_logging(settings: Settings) -> None:
    """Writes `core`, `pages`, `train` and warnings of everything else to standard error and to `state_dir/logs`.

    Called again, it replaces its own handlers instead of doubling every line.
    """
    folder = settings.state_dir / "logs"
    settings.state_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
    folder.mkdir(exist_ok=True, mode=0o700)
    formatter = logging.Formatter(FORMAT)
    file = logging.handlers.RotatingFileHandler(
        folder / "secondread.log", maxBytes=5_000_000, backupCount=5, encoding="utf-8"
    )
    handlers: list[logging.Handler] = [logging.StreamHandler(), file]
    root = logging.getLogger()
    for old in [handler for handler in root.handlers if getattr(handler, "is_of_secondread", False)]:
        root.removeHandler(old)
        old.close()
    for handler in handlers:
        handler.setFormatter(formatter)
        handler.is_of_secondread = True  # type: ignore[attr-defined]
        root.addHandler(handler)
    root.setLevel(logging.WARNING)
    # Streamlit prints the traceback of a failed page to the terminal itself; the file needs it too.
    pages = logging.getLogger(PAGE_ERRORS)
    pages.handlers, pages.propagate = [file], False
    # A message that no browser sends ends its websocket; Streamlit writes a traceback of it, and the sender any number.
    logging.getLogger(_WEBSOCKETS).addFilter(_without_traceback)
    for name in ("core", "pages", "train", "secondread"):
        logging.getLogger(name).setLevel(settings.log_level)


def _without_traceback(record: logging.LogRecord) -> bool:
    if record.levelno <= logging.WARNING:
        record.exc_info = None
    return True
