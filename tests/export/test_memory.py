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

dtype = sys.argv[2]
if len(sys.argv) > 3:
    weights.EXTERNAL_DATA_BYTES = int(sys.argv[3])
target = pathlib.Path(sys.argv[1]) / "model.onnx"
if keras.backend.backend() == "tensorflow":
    kzoo.export.to_onnx(stack(8, 2), target)
# What TensorFlow takes in a child process, whatever the model, on the backends that need one.
with watched() as least:
    kzoo.export.to_onnx(stack(8, 2), target)
model = stack(3072, 6)
size = 4 * model.count_params()
with watched() as growth:
    kzoo.export.to_onnx(model, target, dtype=dtype)
print("GROWTH", (growth.peak - least.peak) / size)
print("DISK", sum(file.stat().st_size for file in target.parent.iterdir()) / size)
x = np.random.default_rng(0).standard_normal((2, 3072)).astype("float32")
session = onnxruntime.InferenceSession(str(target))
found = session.run(None, {session.get_inputs()[0].name: x})[0]
tolerance = 1e-4 if dtype == "float32" else 0.1
np.testing.assert_allclose(found, model.predict_on_batch(x), rtol=tolerance, atol=tolerance)
"""


CASES = {"one file": ["float32"], "weights beside": ["float32", "1000000"], "int8": ["int8"]}
# On the other backends a child process converts, which takes its time.
if keras.backend.backend() != "tensorflow":
    CASES = {"one file": ["float32"]}


@pytest.mark.slow
@pytest.mark.backend
@only_on_linux
@pytest.mark.parametrize("case", CASES)
def test_peak_of_anonymous_memory(case: str, tmp_path: pathlib.Path) -> None:
    printed = run_watched(_CODE, tmp_path, *CASES[case])
    # Of the 2.2 times its weights that an export may take, the model itself is 1.
    assert float(printed.split("GROWTH")[1].split()[0]) < 1.2
    assert float(printed.split("DISK")[1]) < (0.3 if case == "int8" else 1.01)
    assert (tmp_path / "model.onnx.data").is_file() == (case == "weights beside")
