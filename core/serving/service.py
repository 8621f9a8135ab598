"""The inference service's own process: `python -m core.serving.service`, started and watched by the application.

It listens on a socket in the state folder that only the site's own user can reach, to whoever proves to have the
serving key (HMAC both ways). Prepared images lie in memory alone and are in no log. It loads the live models at its
start, in the background, and ends when its standard input does: with the application, however that ends.
"""

from __future__ import annotations

import logging
import os
import signal
import sys
import threading
from collections.abc import Iterator
from multiprocessing import AuthenticationError
from multiprocessing.connection import Connection, Listener, answer_challenge, deliver_challenge
from pathlib import Path
from typing import Any

from core.errors import AppError, InvalidInput, ModelUnavailable, traceback_of
from core.files import own_temporary_folder
from core.models.cards import live_cards, read_card
from core.models.loaded import MODELS, Weighted, load_model
from core.models.outline_card import FILE, read_outline_card
from core.serving import wire
from core.serving.address import reachable, serving_key
from core.serving.desk import Urgency
from core.serving.inference import Computing, waited
from core.settings import Settings

log = logging.getLogger(__name__)
BACKLOG = 128
FAILED = "The models failed at this image, and that is our fault. The log of the inference service has the cause."


def main() -> None:
    """Serve at the socket whose name is the first argument until standard input ends."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(name)s %(message)s", stream=sys.stderr)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C ends the application, which ends this
    settings = Settings.from_environment()
    computing = Computing(lambda: warmed(settings), lambda: faster_engines(settings))
    computing.start()
    with own_temporary_folder(settings.state_dir), reachable(settings, sys.argv[1]) as path:
        listener = Listener(path, "AF_UNIX", backlog=BACKLOG)
        threading.Thread(target=_accept, args=(listener, settings, computing), daemon=True).start()
        log.info("the inference service listens")
        while os.read(0, 1024):
            pass
        listener.close()
    os._exit(0)  # daemon threads inside TensorFlow are not waited for


def warmed(settings: Settings) -> Iterator[str]:
    """Loads what readers will ask for, a model a step: the live models, as many as the memory for them holds.

    Nothing where the site does not want it (`Settings.models_at_start`).
    """
    if not settings.models_at_start:
        return
    try:
        for card in live_cards(settings):
            if MODELS.is_full:
                break
            try:
                load_model(card)
            except AppError as refused:
                log.warning("%s is not loaded ahead: %s", card.weights_sha256[:8], refused)
            yield card.weights_sha256
        log.info("%d networks are loaded", len(MODELS.held))
    except Exception as error:  # as in a thread's outermost loop: whoever asks for the model gets the sentence
        log.error("loading ahead failed:\n%s", traceback_of(error))


def faster_engines(settings: Settings) -> Iterator[str]:
    """Has each network in memory go on with OpenVINO where that is faster on this processor, in short steps.

    Nothing where the site does not want it (`Settings.openvino`); a GPU keeps TensorFlow.
    """
    if not settings.openvino:
        return
    from core.models.inference import LoadedModel, has_gpu
    from core.models.openvino_engine import chosen, is_installed

    if not is_installed():
        log.warning(
            "SECONDREAD_OPENVINO is set, but OpenVINO is not installed: pip install -r requirements-openvino.txt"
        )
        return
    if has_gpu():
        return
    for model in MODELS.loaded:
        try:
            for _ in chosen(model) if isinstance(model, LoadedModel) else ():
                yield model.card.weights_sha256
        except Exception as error:  # as in a thread's outermost loop: the model answers as it did
            log.error("OpenVINO was not tried:\n%s", traceback_of(error))


def _accept(listener: Listener, settings: Settings, computing: Computing) -> None:
    key = serving_key(settings)
    while True:
        try:
            connection = listener.accept()
        except OSError:
            return  # closed
        threading.Thread(target=_serve, args=(connection, key, settings, computing), daemon=True).start()


def _serve(connection: Connection, key: bytes, settings: Settings, computing: Computing) -> None:
    """One client, request after request, until it goes or does not speak as it should."""
    with connection:
        try:
            deliver_challenge(connection, key)
            answer_challenge(connection, key)
            while True:
                _answer(connection, settings, computing)
        except (EOFError, OSError):
            return
        except (wire.BrokenMessage, AuthenticationError) as refused:
            log.warning("a client was cut off: %s", type(refused).__name__)


def _answer(connection: Connection, settings: Settings, computing: Computing) -> None:
    head, arrays = wire.receive(connection)
    desk = computing.desk
    if head.get("do") == "standing":
        wire.send(connection, wire.of_standing(computing.standing(wire.to_keys(head))))
        return
    if head.get("do") == "forget":
        MODELS.forget_all_but(frozenset(map(str, head.get("all_but", ()))))
        wire.send(connection, {"done": True})
        return
    if head.get("do") not in ("read", "ahead"):
        raise wire.BrokenMessage("an unknown request")
    image = wire.to_prepared(head, arrays)
    try:
        card = asked_card(settings, head)
        urgency = Urgency.AHEAD if head["do"] == "ahead" else Urgency(int(head.get("urgency", 0)))
        ticket = desk.ask(card, image, urgency)
        if head["do"] == "ahead":
            wire.send(connection, {"done": True, "key": ticket.key})
            return
        answer = waited(desk, ticket, lambda place: _send_place(connection, place))
    except AppError as refused:
        wire.send(connection, *wire.of_refusal(refused))
        return
    except (EOFError, OSError, wire.BrokenMessage):
        raise
    except Exception:  # already in the log, without anything of the image
        wire.send(connection, *wire.of_refusal(ModelUnavailable(FAILED)))
        return
    wire.send(connection, *wire.of_found(answer))


def _send_place(connection: Connection, place: int) -> None:
    """Raises EOFError where the client has left, which shows as something to read where it should only wait."""
    if connection.poll(0):
        raise EOFError
    wire.send(connection, {"place": place})


def asked_card(settings: Settings, head: dict[str, Any]) -> Weighted:
    """The card that the request names by its folder, which lies in the weights or the state folder.

    Raises InvalidInput; ModelUnavailable where other weights lie there than the request names.
    """
    folder = Path(str(head.get("folder", ""))).resolve()
    if not any(folder.is_relative_to(root.resolve()) for root in (settings.weights_dir, settings.state_dir)):
        raise InvalidInput("The model lies in none of this site's folders.")
    found = read_outline_card(folder) if (folder / FILE).is_file() else read_card(folder)
    if found.weights_sha256 != head.get("weights"):
        raise ModelUnavailable("The model was replaced at this moment. Ask again.")
    return found


if __name__ == "__main__":
    main()
