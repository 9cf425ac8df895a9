"""Export takes little more memory than the model has, and no more disk."""

from __future__ import annotations

import pathlib

import keras
import pytest

from tests.memory import only_on_linux, run_watched

_CODE = """
import pathlib, sys
import keras, numpy as np, onnxruntime, kzoo
from kzoo.export import weights
from tests.memory import watched

def stack(width, depth):
    layers = [keras.layers.Dense(width, activation="relu") for _ in range(depth)]
    return keras.Sequential([keras.Input((width,)), *layers])

if len(sys.argv) > 2:
    weights.EXTERNAL_DATA_BYTES = int(sys.argv[2])
target = pathlib.Path(sys.argv[1]) / "model.onnx"
if keras.backend.backend() == "tensorflow":
    kzoo.export.to_onnx(stack(8, 2), target)
# What TensorFlow takes in a child process, whatever the model, on the backends that need one.
with watched() as least:
    kzoo.export.to_onnx(stack(8, 2), target)
model = stack(3072, 6)
size = 4 * model.count_params()
with watched() as growth:
    kzoo.export.to_onnx(model, target)
print("GROWTH", (growth.peak - least.peak) / size)
print("DISK", sum(file.stat().st_size for file in target.parent.iterdir()) / size)
x = np.random.default_rng(0).standard_normal((2, 3072)).astype("float32")
session = onnxruntime.InferenceSession(str(target))
np.testing.assert_allclose(
    session.run(None, {session.get_inputs()[0].name: x})[0], model.predict_on_batch(x), rtol=1e-4, atol=1e-4
)
"""


# On the other backends a child process converts, which takes its time.
THRESHOLDS = [[], ["1000000"]] if keras.backend.backend() == "tensorflow" else [[]]


@pytest.mark.slow
@pytest.mark.backend
@only_on_linux
@pytest.mark.parametrize("threshold", THRESHOLDS, ids=["one file", "weights beside"][: len(THRESHOLDS)])
def test_peak_of_anonymous_memory(threshold: list[str], tmp_path: pathlib.Path) -> None:
    printed = run_watched(_CODE, tmp_path, *threshold)
    # Of the 2.2 times its weights that an export may take, the model itself is 1.
    assert float(printed.split("GROWTH")[1].split()[0]) < 1.2
    assert float(printed.split("DISK")[1]) < 1.01
    assert (tmp_path / "model.onnx.data").is_file() == bool(threshold)
