"""A model's numbers, told from its shapes alone: parameters against the built model, FLOPs against what runs."""

from __future__ import annotations

import fnmatch
import re

import keras
import numpy as np
import pytest

from kzoo.layers import record_attention
from kzoo.models import create_model, get_variant, list_models
from kzoo.models.drawing import draw
from kzoo.models.licenses import LICENSES, license_of
from kzoo.models.registry import design_of
from kzoo.models.summary import Sketch, describe, summarize
from tests.models.tiny import FAMILIES

TASKS = {family: design_of(name).backbone.tasks for family, (name, _) in FAMILIES.items()}
# Each family at what it does first, and each task once.
CASES = {(family, tasks[0]) for family, tasks in TASKS.items()} | {
    (family, task) for task, family in {task: family for family in TASKS for task in TASKS[family]}.items()
}


@pytest.mark.parametrize("variant", list_models())
def test_a_described_variant_has_its_documented_parameters(variant: str) -> None:
    documented = re.search(r"([\d,]+) parameters", get_variant(variant).__doc__ or "")
    assert documented is not None
    assert f"{describe(variant).parameters:,}" == documented[1]


def test_a_bert_costs_what_pencil_and_paper_say() -> None:
    # Four projections and two dense layers a block, two products of attention, and the pooler for one token.
    tokens, width, inner = 128, 128, 512
    block = 2 * tokens * (4 * width**2 + 2 * width * inner) + 4 * tokens**2 * width
    assert describe("bert_tiny").flops == 2 * block + 2 * width**2
    assert describe("bert_tiny", length=1000).length == 512


def test_blocks_counted_from_one_are_all_blocks() -> None:
    for variant in ("albert_base_v2", "t5_v1_1_small", "clip_base_patch32", "llama_micro"):
        sketch, entry = Sketch(design_of(variant, task="features")), describe(variant)
        assert (sketch.parameters(), sketch.flops()) == (entry.parameters, entry.flops)


# Of the three backends only torch counts.
if keras.backend.backend() == "torch":

    @pytest.mark.backend
    @pytest.mark.parametrize(("family", "task"), sorted(CASES))
    def test_counts_are_those_of_the_model_that_runs(family: str, task: str) -> None:
        from torch.utils.flop_counter import FlopCounterMode

        variant, knobs = FAMILIES[family]
        model = create_model(variant, task=task, **knobs)
        summary = summarize(model)
        assert summary.parameters == model.count_params()
        sizes = dict.fromkeys(("sequence", "decoder_sequence"), summary.length)
        inputs = {
            name: keras.ops.convert_to_tensor(
                np.ones(
                    [sizes.get(axis, 1) if isinstance(axis, str) else axis for axis in spec.shape], spec.dtype
                )
            )
            for name, spec in model.signature().items()
        }
        # Recorded attention is not fused, so that the counter sees its products.
        with FlopCounterMode(display=False) as counter, record_attention():
            model(inputs)
        assert summary.flops == counter.get_total_flops()


@pytest.mark.backend
def test_a_sketch_holds_no_weights() -> None:
    sketch = Sketch(design_of("gpt2_xl"))
    assert sketch.parameters() == 1_557_611_200
    assert sketch.backbone.weights == []


def test_every_licence_is_some_variants() -> None:
    for pattern in LICENSES:
        assert any(license_of(name) == LICENSES[pattern] for name in fnmatch.filter(list_models(), pattern))
    assert license_of("transformer_base") == "none published"


def test_a_shared_block_is_drawn_once() -> None:
    picture = draw(summarize("albert_base_v2"))
    assert "12 x block" in picture
    assert "the same 7,087,872 each time" in picture
    assert picture.isascii()
