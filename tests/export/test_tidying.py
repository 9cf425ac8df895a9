"""What sizes and positions take in an exported graph: no more nodes than ONNX needs."""

from __future__ import annotations

import pathlib

import keras
from keras import layers, ops

import kzoo


class Positions(layers.Layer):
    """Everything that decoders compute of sizes: the last of some tokens, who comes after whom, what is where."""

    def call(self, states, tokens):
        length, total = ops.shape(tokens)[1], ops.shape(states)[1]
        last = states[:, -length:]
        places = ops.arange(length, dtype="int32") + (total + length - total)
        distance = ops.expand_dims(places, 1) - ops.expand_dims(ops.arange(total, dtype="int32"), 0)
        later = ops.expand_dims(ops.cast(distance < 0, "float32") * -1e9, (0, 1))
        counts = ops.cumsum(ops.cast(tokens, "int32"), axis=1)
        found = ops.take_along_axis(states, ops.expand_dims(ops.minimum(counts, 0), 2), axis=1)
        return {"last": last, "later": later, "found": found, "again": ops.cast(tokens, "int32")}


def test_slices_masks_and_sizes_take_one_node_each(tmp_path: pathlib.Path) -> None:
    states = keras.Input((None, 4), name="states")
    tokens = keras.Input((None,), dtype="int32", name="tokens")
    model = keras.Model([states, tokens], Positions()(states, tokens))
    report = kzoo.export.to_onnx(model, tmp_path / "model.onnx")
    operations = report.graphs["model"].operations
    # A mask is chosen, not multiplied; a slice begins where one number says.
    assert {name: operations.get(name, 0) for name in ("Where", "Mul", "Concat", "And", "GatherND")} == {
        "Where": 1,
        "Mul": 0,
        "Concat": 0,
        "And": 0,
        "GatherND": 1,
    }
    # Whole numbers are compared and counted as they come: no casts but those of sizes and places.
    assert operations["Less"] == operations["Slice"] == 1
    assert operations["Shape"] == 2
    assert operations["Unsqueeze"] <= 6
    assert operations["Sub"] == 1
    assert sum(operations.values()) <= 25
