"""OpenVINO in TensorFlow's place: the same answers, taken only where it is equal and faster, and never in the way."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from core import timing
from core.models.cards import read_card
from core.settings import REPOSITORY, Settings
from core.types import Image, Modality

PIXELS = np.random.default_rng(7).random((300, 400)).astype(np.float32)
IMAGE = Image(PIXELS, "5e" * 32, Modality.ULTRASOUND)


@pytest.fixture(scope="module")
def float32() -> Iterator[None]:
    """As a processor without bfloat16: what is compared is the engine."""
    from core.models import inference

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(inference, "compute_policy", lambda: "float32")
        yield


def loaded(model_id: str) -> Any:
    from core.models.inference import LoadedModel

    return LoadedModel(read_card(REPOSITORY / "weights" / model_id))


def after(model: Any) -> Any:
    from core.models.openvino_engine import chosen

    for _ in chosen(model):
        pass
    return model


@pytest.mark.parametrize("model_id", ["ultrasound-cnn", "mammography-efficientnet_lite0-rsna"])
def test_probabilities_maps_and_distance_are_tensorflows(
    float32: None, monkeypatch: pytest.MonkeyPatch, model_id: str
) -> None:
    from core.models import openvino_engine
    from core.models.inference import processor_text

    monkeypatch.setattr(openvino_engine, "_measured_gain", lambda *_: openvino_engine.GAIN_LEAST)
    model, image = loaded(model_id), replace(IMAGE, modality=Modality(model_id.partition("-")[0]))
    n_bytes, (own, own_map) = model.n_bytes, model.read(image)
    their, their_map = after(model).read(image)
    assert their.device == f"{processor_text()}, float32, {openvino_engine.engine_name()}"
    assert model.n_bytes == (3 if n_bytes <= openvino_engine.SMALL_BYTES else 2) * n_bytes
    assert their.probabilities == pytest.approx(own.probabilities, abs=1e-3)
    assert their.training_distance == pytest.approx(own.training_distance, abs=1e-3)
    for branch, values in own_map.maps.items():
        np.testing.assert_allclose(their_map.maps[branch], values, atol=0.01 * values.max())


@pytest.mark.parametrize("model_id", ["ultrasound-cnn", "ultrasound-efficientnet_lite0"])
def test_several_images_at_once_are_answered_as_one_by_one(
    float32: None, monkeypatch: pytest.MonkeyPatch, model_id: str
) -> None:
    from core.models import openvino_engine
    from core.models.prepared import prepared

    monkeypatch.setattr(openvino_engine, "_measured_gain", lambda *_: 9.0)
    model = after(loaded(model_id))
    images = [replace(IMAGE, pixels=PIXELS * share) for share in (1, 0.7, 0.4)]
    together = model.read_prepared([prepared(model.card, image) for image in images])
    for image, (prediction, _) in zip(images, together, strict=True):
        assert prediction.probabilities == pytest.approx(model.read(image)[0].probabilities, abs=1e-4)


@pytest.mark.parametrize(
    ("model_id", "heads"), [("ultrasound-efficientnet_lite0", 0), ("ultrasound-cnn", 1)], ids=["whole", "backbone"]
)
def test_a_network_goes_over_whole_where_openvino_knows_its_operations(
    float32: None, monkeypatch: pytest.MonkeyPatch, model_id: str, heads: int
) -> None:
    """What pools has gradients without a rule there: its head stays TensorFlow's."""
    from core.models import openvino_engine

    made: list[object] = []
    after_backbone = openvino_engine.after_backbone
    monkeypatch.setattr(openvino_engine, "after_backbone", lambda *args: made.append(args) or after_backbone(*args))
    graph = loaded(model_id).graph
    openvino_engine.on_openvino(graph.model, tuple(graph.maps.values()))
    assert len(made) == heads


@pytest.mark.parametrize("small", [0, 1 << 40], ids=["any number", "one and any number"])
def test_a_small_network_is_prepared_for_one_image_too_and_answers_each_number_alike(
    float32: None, monkeypatch: pytest.MonkeyPatch, small: int
) -> None:
    import tensorflow as tf

    from core.models import openvino_engine

    made: list[int | None] = []
    compiled = openvino_engine.compiled_by_openvino
    monkeypatch.setattr(openvino_engine, "SMALL_BYTES", small)
    monkeypatch.setattr(
        openvino_engine, "compiled_by_openvino",
        lambda function, shape, n=None: made.append(n) or compiled(function, shape, n),
    )  # fmt: skip
    graph = loaded("ultrasound-efficientnet_lite0").graph
    forward = openvino_engine.on_openvino(graph.model, tuple(graph.maps.values()))
    assert made == ([None, 1] if small else [None])
    assert (1 + openvino_engine._is_small(graph.model)) == len(made)  # what is counted as memory
    squares = np.random.default_rng(0).random((3, *graph.model.input_shape[1:])).astype(np.float32)
    together, (maps,), _ = forward(tf.constant(squares))
    for at in range(3):
        alone, (its_map,), _ = forward(tf.constant(squares[at : at + 1]))
        np.testing.assert_allclose(alone[0], together[at], atol=1e-4)
        np.testing.assert_allclose(its_map[0], maps[at], atol=1e-4)


@pytest.mark.parametrize(("gain", "is_taken"), [(1.1499, False), (1.15, True)])
def test_it_is_taken_from_the_bound_on(
    float32: None, monkeypatch: pytest.MonkeyPatch, gain: float, is_taken: bool
) -> None:
    from core.models import openvino_engine

    monkeypatch.setattr(openvino_engine, "_measured_gain", lambda *_: gain)
    model = after(loaded("ultrasound-cnn"))
    assert ("OpenVINO" in model.device) == is_taken


def test_an_engine_that_answers_otherwise_is_refused(float32: None, monkeypatch: pytest.MonkeyPatch) -> None:
    import tensorflow as tf

    from core.models import openvino_engine

    model = loaded("ultrasound-cnn")

    def engine(surer: float = 1.0, brighter: float = 1.0) -> Any:
        def forward(squares: Any) -> Any:
            logits, maps, features = model.forward(squares)
            return logits * surer, [one * brighter for one in maps], features

        return forward

    def refused(**other: float) -> str:
        return openvino_engine.difference(model, model.forward, engine(**other))

    most = openvino_engine.MAP_DIFFERENCE_MOST
    assert refused(brighter=1 + 0.99 * most) == ""
    assert refused(brighter=1 + 1.01 * most).startswith("a map")
    logits = model.forward(tf.constant(openvino_engine._square(model)))[0].numpy()
    of = model.card.calibration.probabilities
    apart = float(np.abs(of(logits) - of(logits * 1.5)).max())
    assert apart > openvino_engine.PROBABILITY_DIFFERENCE_MOST
    for bound, words in ((apart * 1.01, ""), (apart * 0.99, "probabilities")):
        monkeypatch.setattr(openvino_engine, "PROBABILITY_DIFFERENCE_MOST", bound)
        assert refused(surer=1.5).startswith(words) and bool(refused(surer=1.5)) == bool(words)
    assert refused(surer=float("nan")).startswith("probabilities")


@pytest.mark.parametrize(("wrong", "is_refused"), [(1, True), (2, True), (3, False)])
def test_it_is_compared_for_one_image_and_for_two_which_may_go_other_ways(
    float32: None, wrong: int, is_refused: bool
) -> None:
    from core.models import openvino_engine

    model = loaded("ultrasound-cnn")

    def forward(squares: Any) -> Any:
        logits, maps, features = model.forward(squares)
        return logits, [one * (2.0 if squares.shape[0] == wrong else 1.0) for one in maps], features

    assert bool(openvino_engine.difference(model, model.forward, forward)) is is_refused


def test_the_gain_is_tensorflows_time_over_the_others(float32: None, monkeypatch: pytest.MonkeyPatch) -> None:
    from core.models import openvino_engine

    model, clock = loaded("ultrasound-cnn"), [0.0]
    forward = model.forward

    def slower(squares: Any) -> Any:
        clock[0] += 1.5
        return forward(squares)

    def faster(squares: Any) -> Any:
        clock[0] += 0.5
        return forward(squares)

    model.forward = slower
    monkeypatch.setattr(timing, "time", SimpleNamespace(perf_counter=lambda: clock[0]))
    assert openvino_engine._measured_gain(model, faster) == pytest.approx(3)


def test_where_it_fails_the_model_stays_as_it_is_and_the_log_says_so(
    float32: None, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    from core.models import openvino_engine

    def fails(*_: object) -> None:
        raise RuntimeError("an operation is unknown")

    monkeypatch.setattr(openvino_engine, "on_openvino", fails)
    model = loaded("ultrasound-cnn")
    forward = model.forward
    after(model)
    assert model.forward is forward and "ultrasound-cnn" in caplog.text and "TensorFlow: RuntimeError" in caplog.text


@pytest.mark.parametrize(("is_wanted", "is_there"), [(False, True), (True, True), (True, False)])
def test_the_service_asks_for_it_only_where_the_site_wants_it_and_has_it(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, is_wanted: bool, is_there: bool
) -> None:
    from core.models import openvino_engine
    from core.serving import service

    asked: list[object] = []
    monkeypatch.setattr(openvino_engine, "chosen", lambda model: iter(asked.append(model) or [None]))
    monkeypatch.setattr(openvino_engine, "is_installed", lambda: is_there)
    model = loaded("ultrasound-cnn")
    monkeypatch.setattr(service, "MODELS", SimpleNamespace(loaded=(model, "an outline network")))
    settings = replace(Settings.from_environment(), openvino=is_wanted)
    with caplog.at_level(logging.WARNING):
        steps = list(service.faster_engines(settings))
    assert asked == [model] * (is_wanted and is_there) and len(steps) == len(asked)
    assert ("requirements-openvino.txt" in caplog.text) == (is_wanted and not is_there)


def test_an_unexpected_error_of_one_model_ends_nothing(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    from core.models import openvino_engine
    from core.serving import service

    def fails(model: Any) -> Iterator[None]:
        raise RuntimeError
        yield

    monkeypatch.setattr(openvino_engine, "chosen", fails)
    monkeypatch.setattr(service, "MODELS", SimpleNamespace(loaded=(loaded("ultrasound-cnn"),)))
    assert list(service.faster_engines(replace(Settings.from_environment(), openvino=True))) == []
    assert "RuntimeError" in caplog.text


def test_a_desk_is_warm_before_what_may_still_be_bettered() -> None:
    from core.serving.inference import Computing

    warm: list[bool] = []
    computing = Computing(lambda: iter([None]), lambda: iter([warm.append(not computing.standing([]).is_warming)]))
    assert computing.standing([]).is_warming
    list(computing._steps())
    assert warm == [True]
