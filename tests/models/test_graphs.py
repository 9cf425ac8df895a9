"""The graphs that serve: decoding with a cache gives what the whole sequence gives at once."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import pytest

import kzoo
from kzoo.layers import record_attention
from kzoo.models.graphs import Graph, bare_graph, serving_graphs
from tests.models.tiny import FAMILIES, make_inputs, outputs, shaken, tiny

pytestmark = pytest.mark.backend

CARRIERS = {
    task: [family for family in FAMILIES if task in getattr(kzoo.models, family).tasks]
    for task in ("causal_lm", "seq2seq")
}


def log_softmax(logits: np.ndarray) -> np.ndarray:
    shifted = logits - logits.max(axis=-1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True))


def run(graph: Graph, inputs: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    assert set(inputs) == set(graph.inputs)
    for name, spec in graph.inputs.items():
        assert inputs[name].ndim == len(spec.shape)
    results = graph.function({name: keras.ops.convert_to_tensor(value) for name, value in inputs.items()})
    return {name: keras.ops.convert_to_numpy(value) for name, value in results.items()}


def empty_caches(graph: Graph, batch: int) -> dict[str, np.ndarray]:
    sizes = {"past_batch": batch, "past": 0}
    return {
        name: np.zeros([sizes.get(size, size) for size in spec.shape], spec.dtype)
        for name, spec in graph.inputs.items()
        if "past" in spec.shape
    }


def past_of(results: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    return {
        name.replace("present", "past_key_values"): value
        for name, value in results.items()
        if name.startswith("present")
    }


def decode(graph: Graph, ids: np.ndarray, name: str, steps: list[int], rest: Any) -> np.ndarray:
    """Feed `ids` in pieces of the given sizes, and return what may follow each piece.

    Between two steps the rows change places, as beams do.
    """
    caches, found, seen = empty_caches(graph, len(ids)), [], 0
    order = np.arange(len(ids))
    for size in steps:
        piece = ids[:, seen : seen + size]
        seen += size
        feeds = {name: piece[order[::-1]], **rest(seen, order[::-1]), **caches}
        feeds |= {
            "beam_idx": np.argsort(order)[order[::-1]],
            "logits_to_keep": np.array(1),
            "top_k": np.array(3),
        }
        order = order[::-1]
        results = run(graph, feeds)
        caches = past_of(results)
        log_probs = results["log_probs"]
        top = np.take_along_axis(log_probs, results["top_ids"].astype("int64"), axis=-1)
        np.testing.assert_array_equal(top, results["top_log_probs"])
        np.testing.assert_array_equal(top, -np.sort(-log_probs, axis=-1)[..., :3])
        found.append(log_probs[np.argsort(order)])
    return np.concatenate(found, axis=1)


@pytest.mark.parametrize("padding", ["left", "right"])
@pytest.mark.parametrize("family", CARRIERS["causal_lm"])
def test_cached_continuation_equals_uncached(family, padding):
    steps = [4, 1, 1, 3]
    model = shaken(tiny(family, task="causal_lm"))
    ids = make_inputs(model)["input_ids"]
    mask = np.ones_like(ids)
    if padding == "left":
        mask[1, :3] = 0
    if padding == "right":
        mask[1, 6:] = 0
    whole = outputs(model, {"input_ids": ids, "attention_mask": mask})["logits"]
    ends = np.cumsum(steps) - 1
    got = decode(
        serving_graphs(model)["model"],
        ids,
        "input_ids",
        steps,
        lambda seen, order: {"attention_mask": mask[order, :seen]},
    )
    real = mask[:, ends] == 1
    expected = log_softmax(whole[:, ends][real])
    np.testing.assert_allclose(got[real], expected, atol=1e-5 * max(1.0, np.abs(expected).max()))


@pytest.mark.parametrize(
    ("family", "knobs"),
    [(family, {}) for family in CARRIERS["seq2seq"]] + [("Transformer", {"norm_first": True})],
)
def test_cached_translation_equals_uncached(family, knobs):
    steps = [2, 1, 1, 7]
    model = shaken(tiny(family, task="seq2seq", **knobs))
    inputs = make_inputs(model)
    whole = outputs(model, inputs)["logits"]
    graphs = serving_graphs(model)
    source = {name: inputs[name] for name in ("input_ids", "attention_mask")}
    memory = past_of(run(graphs["encoder"], source))
    rest = {"attention_mask": inputs["attention_mask"], **memory}
    got = decode(
        graphs["decoder"],
        inputs["decoder_input_ids"],
        "decoder_input_ids",
        steps,
        lambda seen, order: {name: value[order] for name, value in rest.items()},
    )
    expected = log_softmax(whole[:, np.cumsum(steps) - 1])
    np.testing.assert_allclose(got, expected, atol=1e-5 * max(1.0, np.abs(expected).max()))


@pytest.mark.parametrize("family", CARRIERS["seq2seq"])
def test_beams_share_what_they_translate(family):
    """Two rows for each source, its memory there once, give what the whole sequences give with a source each."""
    model = shaken(tiny(family, task="seq2seq"))
    inputs = make_inputs(model)
    source = {name: inputs[name] for name in ("input_ids", "attention_mask")}
    targets = np.random.default_rng(5).integers(0, 300, (6, 4)).astype("int32")
    repeated = {name: np.repeat(value, 2, axis=0) for name, value in source.items()}
    whole = log_softmax(outputs(model, {**repeated, "decoder_input_ids": targets})["logits"])
    graphs = serving_graphs(model)
    feeds = {"attention_mask": source["attention_mask"], **past_of(run(graphs["encoder"], source))}
    first = {
        "decoder_input_ids": targets[:, :1],
        "beam_idx": np.zeros(6, "int64"),
        "logits_to_keep": np.array(1),
        "top_k": np.array(1),
        **empty_caches(graphs["decoder"], 1),
    }
    caches = past_of(run(graphs["decoder"], {**feeds, **first}))
    rest = {"decoder_input_ids": targets[:, 1:], "beam_idx": np.arange(6), "logits_to_keep": np.array(3)}
    got = run(graphs["decoder"], {**feeds, **first, **caches, **rest})
    expected = whole[:, 1:]
    np.testing.assert_allclose(got["log_probs"], expected, atol=1e-5 * max(1.0, np.abs(expected).max()))


@pytest.mark.parametrize("family", CARRIERS["seq2seq"])
def test_a_decoder_says_where_it_looks(family):
    """Two targets for each source: the weights that the whole model has, the mean over the heads of one layer."""
    model = shaken(tiny(family, task="seq2seq", num_decoder_layers=3))
    inputs = make_inputs(model)
    source = {name: inputs[name] for name in ("input_ids", "attention_mask")}
    targets = np.random.default_rng(5).integers(0, 300, (6, 4)).astype("int32")
    with record_attention(model.backbone.decoder_blocks[1].cross_attention) as recorded:
        outputs(
            model, {**{n: np.repeat(v, 2, axis=0) for n, v in source.items()}, "decoder_input_ids": targets}
        )
    graphs = serving_graphs(model)
    feeds = {
        "decoder_input_ids": targets,
        "beam_idx": np.zeros(6, "int64"),
        "logits_to_keep": np.array(1),
        "top_k": np.array(1),
        "attention_mask": source["attention_mask"],
        **past_of(run(graphs["encoder"], source)),
        **empty_caches(graphs["decoder"], 1),
    }
    got = run(graphs["decoder"], feeds)["cross_attention"]
    np.testing.assert_allclose(got.sum(axis=-1), 1.0, atol=1e-5)
    expected = keras.ops.convert_to_numpy(recorded[0]).mean(axis=1)
    assert expected.std() > 1e-3
    np.testing.assert_allclose(got, expected, atol=1e-5)


def test_masks_are_filled_as_the_whole_model_fills_them():
    model = shaken(tiny("Bert", task="mlm"))
    inputs = make_inputs(model)
    positions = np.array([[0, 3], [6, 1], [2, 2]])
    got = run(serving_graphs(model)["model"], {**inputs, "mask_positions": positions})["logits"]
    expected = np.take_along_axis(outputs(model, inputs)["logits"], positions[..., None], axis=1)
    np.testing.assert_allclose(got, expected, atol=1e-5)


@pytest.mark.parametrize("family", FAMILIES)
def test_bare_graph_is_the_model(family):
    model = shaken(tiny(family))
    inputs = make_inputs(model)
    for name, value in run(bare_graph(model), inputs).items():
        np.testing.assert_allclose(value, outputs(model, inputs)[name], atol=1e-6)
