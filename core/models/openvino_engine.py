"""A network's way to its maps on OpenVINO, where a site has installed it and it is faster than TensorFlow here.

OpenVINO (`requirements-openvino.txt`) computes in float32: all of it, or, of a network for whose gradients it has no
rule, the backbone; the head and Grad-CAM then stay TensorFlow's, on the maps that come out of it. The choice is by
measurement on this machine, a model at a time, after the model can answer.
The network is given as a frozen TensorFlow graph, which OpenVINO reads itself: its converter in Python, which reports
its use to its makers, is never called.
"""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Callable, Iterator
from concurrent.futures import Future, TimeoutError
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path
from threading import Thread, local
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2

from core.models.inference import Compiled, LoadedModel, after_backbone, backbone_of, built_graph, explained
from core.timing import interleaved

log = logging.getLogger(__name__)
GAIN_LEAST = 1.15
"""As many times as fast as TensorFlow it must be to take its place: less is lost in what else the machine does."""
PROBABILITY_DIFFERENCE_MOST, MAP_DIFFERENCE_MOST = 1e-3, 1e-2
"""From TensorFlow's float32: of a calibrated probability, and of a map as a share of its highest value."""
ROUNDS = 7
STEP_SECONDS = 0.1
SMALL_BYTES = 32 * 2**20
"""Up to so many of weights a network is prepared for one image as well: 7 per cent are gained for as much memory once
more; nothing is gained for larger ones."""


def is_installed() -> bool:
    """Whether this site has OpenVINO. It is not imported."""
    return find_spec("openvino") is not None


def chosen(model: LoadedModel) -> Iterator[None]:
    """Leaves the faster engine in the model, in short steps between which the model may answer.

    OpenVINO prepares itself (seconds) on a thread of its own; the measurement is the last step. A model for which it
    is not faster, not equal or not possible stays as it is, and the log says why.
    """
    prepared: Future[tuple[Any, Compiled, Compiled]] = Future()
    Thread(target=_prepare, args=(model, prepared), name="engine", daemon=True).start()
    while True:
        try:
            graph, ours, theirs = prepared.result(STEP_SECONDS)
            break
        except TimeoutError:
            yield
        except Exception as error:  # of a library that a site added: the model answers without it
            log.warning("%s stays on TensorFlow: %s", _name(model), type(error).__name__)
            return
    unlike = difference(model, ours, theirs)
    if unlike:
        log.warning("%s stays on TensorFlow: %s", _name(model), unlike)
        return
    gain = _measured_gain(model, theirs)
    log.info("%s: OpenVINO is %.2f times as fast as TensorFlow", _name(model), gain)
    if gain >= GAIN_LEAST:
        model.take_engine(graph, theirs, engine_name(), n_programs=1 + _is_small(graph.model))
    yield


def engine_name() -> str:
    """As a prediction's device names it: "OpenVINO 2026.4.1"."""
    import openvino

    return f"OpenVINO {openvino.__version__.partition('-')[0]}"


def on_openvino(model: keras.Model, map_layers: tuple[str, ...]) -> Compiled:
    """As `core.models.inference.explained`, of a float32 model, on OpenVINO's processor plugin: the whole of it where
    OpenVINO knows its operations, else the backbone."""
    try:
        return _whole_on_openvino(model, map_layers)
    except RuntimeError:  # no rule for an operation: gradients of pooling and ReLU
        return _backbone_on_openvino(model, map_layers)


def _whole_on_openvino(model: keras.Model, map_layers: tuple[str, ...]) -> Compiled:
    function = explained(model, map_layers)
    asked: dict[int | None, Callable[[tf.Tensor], list[tf.Tensor]]] = {None: _whole(function, model.input_shape)}
    if _is_small(model):
        with suppress(RuntimeError):  # any number of images answers one, too
            asked[1] = _whole(function, model.input_shape, n=1)

    def forward(squares: tf.Tensor) -> tuple[tf.Tensor, list[tf.Tensor], tf.Tensor]:
        logits, *cams, features = asked.get(squares.shape[0], asked[None])(squares)
        return logits, cams, features

    return forward


def _is_small(model: keras.Model) -> bool:
    """Whether it may be prepared twice; its memory is counted so, also where OpenVINO takes the backbone alone."""
    return bool(4 * model.count_params() <= SMALL_BYTES)


def _whole(
    function: Any, input_shape: tuple[int | None, ...], n: int | None = None
) -> Callable[[tf.Tensor], list[tf.Tensor]]:
    compiled, outputs = compiled_by_openvino(function, input_shape, n)
    ask = _asked(compiled)

    def answers(squares: tf.Tensor) -> list[tf.Tensor]:
        found = ask(squares)
        return [tf.constant(found[output]) for output in outputs]

    return answers


def _backbone_on_openvino(model: keras.Model, map_layers: tuple[str, ...]) -> Compiled:
    backbone = backbone_of(model, map_layers)
    compiled, outputs = compiled_by_openvino(plain(backbone), model.input_shape)
    of_maps = [tf.TensorSpec(tensor.shape, tf.float32) for tensor in backbone.outputs]
    head = tf.function(after_backbone(model, map_layers), input_signature=[of_maps])
    ask = _asked(compiled)

    def forward(squares: tf.Tensor) -> tuple[tf.Tensor, list[tf.Tensor], tf.Tensor]:
        found = ask(squares)
        answer: tuple[tf.Tensor, list[tf.Tensor], tf.Tensor] = head([tf.constant(found[output]) for output in outputs])
        return answer

    return forward


def _asked(compiled: Any) -> Callable[[tf.Tensor], Any]:
    """Asks with a request of its own for each thread: they may ask at once, and making one takes its time."""
    own = local()

    def ask(squares: tf.Tensor) -> Any:
        if not hasattr(own, "request"):
            own.request = compiled.create_infer_request()
        return own.request.infer({0: squares.numpy()})

    return ask


def plain(model: keras.Model) -> Callable[[tf.Tensor], list[tf.Tensor]]:
    """A compiled function: what a model answers, as a list."""
    forward: Callable[[tf.Tensor], list[tf.Tensor]] = tf.function(
        lambda squares: tf.nest.flatten(model(squares, training=False))
    )
    return forward


def compiled_by_openvino(
    function: Any, input_shape: tuple[int | None, ...], n: int | None = None
) -> tuple[Any, list[Any]]:
    """A TensorFlow function of float32 squares as OpenVINO runs it, and its outputs in the function's order.

    n: of squares at once; None for any.

    Raises RuntimeError where OpenVINO has no rule for an operation.
    """
    import openvino

    concrete = function.get_concrete_function(tf.TensorSpec((None, *input_shape[1:]), tf.float32))
    frozen = convert_variables_to_constants_v2(concrete)
    core = openvino.Core()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "graph.pb"
        path.write_bytes(frozen.graph.as_graph_def().SerializeToString())
        network = core.read_model(path)
        if n is not None:
            network.reshape([n, *input_shape[1:]])
        compiled = core.compile_model(
            network, "CPU", {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_PRECISION_HINT": "f32"}
        )
    by_name = {name.partition(":")[0]: output for output in compiled.outputs for name in output.names}
    return compiled, [by_name[tensor.name.partition(":")[0]] for tensor in frozen.outputs]


def difference(model: LoadedModel, ours: Compiled, theirs: Compiled) -> str:
    """How two engines disagree about squares of noise, one and two at once, in words; "" where within the bounds."""
    square = _square(model)
    found = (_difference(model, ours, theirs, tf.constant(one)) for one in (square, np.repeat(square, 2, axis=0)))
    return next(filter(None, found), "")


def _difference(model: LoadedModel, ours: Compiled, theirs: Compiled, squares: tf.Tensor) -> str:
    (logits, maps, _), (their_logits, their_maps, _) = ours(squares), theirs(squares)
    calibrated: Callable[[np.ndarray], np.ndarray] = model.card.calibration.probabilities
    apart = float(np.abs(calibrated(logits.numpy()) - calibrated(their_logits.numpy())).max())
    if not apart <= PROBABILITY_DIFFERENCE_MOST:
        return f"probabilities differ by {apart:.2g}"
    for own, their in zip(maps, their_maps, strict=True):
        apart = float(np.abs(own.numpy() - their.numpy()).max() / max(float(own.numpy().max()), 1e-12))
        if not apart <= MAP_DIFFERENCE_MOST:
            return f"a map differs by {apart:.2g} of its highest value"
    return ""


def _prepare(model: LoadedModel, prepared: Future[tuple[Any, Compiled, Compiled]]) -> None:
    try:
        graph = built_graph(model.card, "float32")
        layers = tuple(graph.maps.values())
        prepared.set_result((graph, explained(graph.model, layers), on_openvino(graph.model, layers)))
    except BaseException as error:
        prepared.set_exception(error)


def _measured_gain(model: LoadedModel, theirs: Compiled) -> float:
    """Medians of interleaved calls with one image, TensorFlow's as this machine computes now over OpenVINO's."""
    square = tf.constant(_square(model))
    ways = {"ours": lambda: model.forward(square)[0].numpy(), "theirs": lambda: theirs(square)[0].numpy()}
    seconds = interleaved(ways, ROUNDS)
    return seconds["ours"] / seconds["theirs"]


def _square(model: LoadedModel) -> np.ndarray:
    card = model.card
    return np.random.default_rng(0).random((1, card.side, card.columns, card.channels)).astype(np.float32)


def _name(model: LoadedModel) -> str:
    return f"{model.card.model_id} {model.card.weights_sha256[:8]}"
