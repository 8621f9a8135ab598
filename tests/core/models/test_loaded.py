"""Models in memory: loaded once, given up beyond the bound, forgotten when they are gone."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from core.errors import ModelUnavailable
from core.models.loaded import LoadedModels


@dataclass
class SmallCard:
    """As much of a card as the models in memory look at."""

    weights_sha256: str
    has_weights: bool = True


A, B, C = (SmallCard(name) for name in "abc")


def made(loads: list[str], n_bytes: int = 10) -> Any:
    """What makes a network of so many bytes, and writes down of which weights."""

    def load(card: SmallCard) -> SimpleNamespace:
        loads.append(card.weights_sha256)
        return SimpleNamespace(card=card, n_bytes=n_bytes)

    return load


def test_what_just_fits_stays_and_one_byte_more_gives_up_the_least_recently_used() -> None:
    for bytes_most, held in ((30, ("b", "a", "c")), (29, ("a", "c"))):
        loads: list[str] = []
        models = LoadedModels(made(loads), bytes_most)
        for card in (A, B, A, C):
            assert models.get(card).card is card  # type: ignore[arg-type]
        assert models.held == held and loads == ["a", "b", "c"]


def test_a_network_larger_than_the_bound_is_held_alone() -> None:
    models = LoadedModels(made([], n_bytes=31), 30)
    models.get(A)  # type: ignore[arg-type]
    models.get(B)  # type: ignore[arg-type]
    assert models.held == ("b",)


def test_two_readers_load_a_network_once_and_nobody_waits_for_another_network() -> None:
    loads: list[str] = []
    began, go_on = threading.Event(), threading.Event()
    quick = made(loads)

    def load(card: Any) -> Any:
        if card is A:
            began.set()
            assert go_on.wait(30)
        return quick(card)

    models, found = LoadedModels(load), []
    readers = [threading.Thread(target=lambda: found.append(models.get(A))) for _ in range(4)]  # type: ignore[arg-type]
    for reader in readers:
        reader.start()
    assert began.wait(30)
    assert models.get(B).card is B  # type: ignore[arg-type]  # while A is still being loaded
    go_on.set()
    for reader in readers:
        reader.join(30)
    assert loads == ["b", "a"] and len(found) == 4 and len({id(one) for one in found}) == 1


def test_what_cannot_be_loaded_is_refused_each_time_until_it_can_be() -> None:
    card, loads = SmallCard("a"), []
    broken = [True]

    def load(card: Any) -> Any:
        loads.append(card.weights_sha256)
        if broken[0]:
            raise ModelUnavailable("The weights are damaged. Fetch them again.")
        return SimpleNamespace(n_bytes=1)

    models = LoadedModels(load)
    for _ in range(2):
        with pytest.raises(ModelUnavailable, match="Fetch them again"):
            models.get(card)  # type: ignore[arg-type]
        assert models.held == ()
    broken[0] = False
    models.get(card)  # type: ignore[arg-type]
    assert models.held == ("a",) and len(loads) == 3


def test_a_network_that_keras_traced_wrongly_is_built_once_more_and_only_once(caplog: pytest.LogCaptureFixture) -> None:
    for n_wrong, n_loads in ((1, 2), (2, 2)):
        loads: list[str] = []

        def load(card: Any, n_wrong: int = n_wrong, loads: list[str] = loads) -> Any:
            loads.append(card.weights_sha256)
            if len(loads) <= n_wrong:
                raise TypeError("Input 'filter' of 'Conv2D' Op has type float32 that does not match type bfloat16")
            return SimpleNamespace(n_bytes=1)

        models = LoadedModels(load)
        if n_wrong == 1:
            models.get(A)  # type: ignore[arg-type]
        else:
            with pytest.raises(TypeError, match="filter"):
                models.get(A)  # type: ignore[arg-type]
        assert len(loads) == n_loads and models.held == (("a",) if n_wrong == 1 else ())
    assert [(record.levelname, record.exc_info) for record in caplog.records] == [("WARNING", None)] * 2, (
        "it was mended"
    )


def test_weights_that_were_removed_and_models_that_nobody_can_ask_are_forgotten() -> None:
    gone = SmallCard("gone")
    models = LoadedModels(made([]))
    for card in (A, B, C, gone):
        models.get(card)  # type: ignore[arg-type]
    gone.has_weights = False
    models.get(A)  # type: ignore[arg-type]
    assert models.held == ("b", "c", "a")
    models.forget_all_but({"a", "c"})
    assert models.held == ("c", "a")


def test_no_other_module_holds_models() -> None:
    """`LoadedModel(` is called where it is cached, where it is measured, and where it is trained."""
    from core.settings import REPOSITORY

    callers = {
        path.relative_to(REPOSITORY).as_posix()
        for room in ("core", "pages", "train")
        for path in Path(REPOSITORY / room).rglob("*.py")
        if "LoadedModel(card" in path.read_text(encoding="utf-8")
    }
    assert callers == {"core/models/loaded.py"}


def test_it_is_full_where_one_more_as_large_as_the_largest_would_not_fit() -> None:
    for bytes_most, is_full in ((30, False), (29, True)):
        models = LoadedModels(made([]), bytes_most)
        assert not models.is_full
        for card in (A, B):
            models.get(card)  # type: ignore[arg-type]
        assert models.is_full is is_full
