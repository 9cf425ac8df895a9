"""Feed-forwards with a few numbers that are far larger than the others: found, and kept out of the others' way."""

from __future__ import annotations

import pathlib

import keras
import numpy as np
import onnx
import onnxruntime
import pytest

import kzoo
from kzoo.export import outliers, precision
from kzoo.export.products import Products
from tests.models.tiny import make_inputs, shaken, tiny


def run(proto: onnx.ModelProto, inputs: dict[str, np.ndarray]) -> list[np.ndarray]:
    session = onnxruntime.InferenceSession(proto.SerializeToString(), providers=["CPUExecutionProvider"])
    names = {value.name for value in session.get_inputs()}
    return session.run(None, {name: value for name, value in inputs.items() if name in names})


@pytest.mark.parametrize("target", ["any", "cpu"])
@pytest.mark.parametrize(
    ("family", "feed_forwards", "evenable"), [("Bert", 2, 2), ("GPT2", 2, 2), ("ViT", 2, 2), ("Albert", 1, 0)]
)
def test_the_remedies_change_nothing_in_float32(
    tmp_path: pathlib.Path, family: str, feed_forwards: int, evenable: int, target: str
) -> None:
    model = shaken(tiny(family, intermediate_dim=64))
    model.export(tmp_path / "model.onnx", target=target)
    proto = onnx.load(str(tmp_path / "model.onnx"))
    inputs = {name: np.array(value) for name, value in make_inputs(model).items()}
    inputs = {
        name: array if array.dtype.kind == "f" else array.astype("int64") for name, array in inputs.items()
    }
    expected = run(proto, inputs)
    random = np.random.default_rng(0)

    def observe(names: list[str]):
        """Yield made-up values in which some entries stand out."""
        widths = {"expand": model.backbone.config.hidden_dim, "contract": 64}
        graph = Products(proto)
        read_by = {
            node.input[0]: kind
            for node in proto.graph.node
            for kind in widths
            if (weight := graph.weight(node)) is not None and kind in weight.name
        }
        for _ in range(2):
            sizes = [np.arange(1.0, widths[read_by[name]] + 1) ** 2 for name in names]
            yield [each * random.choice([-1.0, 1.0], (3, len(each))) for each in sizes]

    # The tests' matrices are smaller than those that are quantized otherwise.
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("kzoo.export.products.FEWEST_WEIGHTS", 1)
        patch.setattr(outliers, "_EVENED", 4)
        found = outliers.find_outliers(proto, observe)
        assert (len(found.units), len(found.factors)) == (feed_forwards, evenable)
        for units in found.units.values():
            assert units.tolist() == [*range(48, 64)]
        for factors in found.factors.values():
            np.testing.assert_allclose(
                factors, np.maximum(np.arange(1, len(factors) + 1) / (len(factors) - 4), 1) ** 2
            )
        apart = outliers.set_apart(proto, found)
    assert len(apart) == 2 * feed_forwards
    for value, wanted in zip(run(proto, inputs), expected, strict=True):
        np.testing.assert_allclose(value, wanted, atol=1e-4)


def feed_forward(activation: str, spike: float) -> keras.Model:
    """A norm and a feed-forward of which one entry and one unit are `spike` times as large, to no effect."""
    keras.utils.set_random_seed(0)
    x = keras.Input((64,))
    norm = keras.layers.LayerNormalization()
    expand = keras.layers.Dense(256, activation=activation)
    contract = keras.layers.Dense(64, name="contract")
    model = keras.Model(x, contract(expand(norm(x))))
    norm.gamma.assign(np.where(np.arange(64) == 5, spike, 1.0))
    kernel = np.random.default_rng(0).normal(size=(64, 256)) / 8
    kernel[5] /= spike
    expand.kernel.assign(kernel)
    expand.bias.assign(np.where(np.arange(256) == 7, spike, 0.0))
    kernel = np.random.default_rng(1).normal(size=(256, 64)) / 16
    kernel[7] /= spike
    contract.kernel.assign(kernel)
    return model


@pytest.mark.parametrize("activation", ["gelu", "relu"])
def test_int8_is_near_float32_in_spite_of_outliers(tmp_path: pathlib.Path, activation: str) -> None:
    report = kzoo.export.to_onnx(feed_forward(activation, 200.0), tmp_path / "model.onnx", dtype="int8")
    (graph,) = report.reduction.graphs.values()
    assert len(graph.apart) == len(graph.evened) == 1
    assert graph.spared == []
    assert graph.differences["contract"].cosine > 0.999 > precision.BOUNDS["int8"].cosine
    assert "what stands out in 2 matrices of its feed-forwards is set apart" in str(report)
    assert "has cosine 0." in graph.reason

    plain = kzoo.export.to_onnx(feed_forward(activation, 1.0), tmp_path / "plain.onnx", dtype="int8")
    (graph,) = plain.reduction.graphs.values()
    assert (graph.apart, graph.evened, graph.reason) == ([], [], "")
    # The few units that stay in float32 take little room.
    assert report.size_bytes < 1.6 * plain.size_bytes
