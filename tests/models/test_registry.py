"""Variants by name, their sizes, and the mistakes that are answered with the nearest right name."""

from __future__ import annotations

import re

import keras
import pytest

import kzoo
from kzoo.errors import KzooError
from kzoo.models import create_model, get_variant, list_models
from tests.models import tiny

_COUNT = re.compile(r"([\d,]+) parameters")
LARGE = 50_000_000
# Above it, weights would fill a small machine's memory: tests/models/test_summary.py counts those without any.
HUGE = 400_000_000


def documented_count(variant: str) -> int:
    counts = _COUNT.findall(get_variant(variant).__doc__ or "")
    assert len(counts) == 1, f"the docstring of {variant} gives {len(counts)} parameter counts"
    return int(counts[0].replace(",", ""))


@pytest.fixture
def unfilled(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave out the drawing of random weights, which is most of the time that building a model takes."""
    drawn = (
        keras.initializers.TruncatedNormal,
        keras.initializers.GlorotUniform,
        keras.initializers.HeNormal,
    )
    for initializer in drawn:
        monkeypatch.setattr(
            initializer, "__call__", lambda self, shape, dtype=None: keras.ops.zeros(shape, dtype)
        )


def large_ones_are_slow(variant: str) -> object:
    marks = [pytest.mark.slow] if documented_count(variant) > LARGE else []
    return pytest.param(variant, marks=marks)


@pytest.mark.parametrize(
    "variant", [large_ones_are_slow(name) for name in list_models() if documented_count(name) < HUGE]
)
@pytest.mark.usefixtures("unfilled")
def test_docstrings_count_the_parameters(variant):
    assert create_model(variant, task="features").count_params() == documented_count(variant)


@pytest.mark.parametrize(
    ("variant", "count"),
    [("bert_base", 109_482_240), ("gpt2_small", 124_439_808), ("vit_base_patch16_224", 85_798_656)],
)
def test_counts_of_the_published_models(variant, count):
    assert documented_count(variant) == count


@pytest.mark.parametrize(
    ("variant", "width", "classifiers", "count"),
    [
        ("vit_tiny_patch16_224", 192, 1, 5_717_416),
        ("vit_small_patch16_224", 384, 1, 22_050_664),
        ("vit_base_patch16_224", 768, 1, 86_567_656),
        ("vit_base_patch32_224", 768, 1, 88_224_232),
        ("vit_large_patch16_224", 1024, 1, 304_326_632),
        ("deit_tiny_patch16_224", 192, 1, 5_717_416),
        ("deit_tiny_distilled_patch16_224", 192, 2, 5_910_800),
        ("deit_small_distilled_patch16_224", 384, 2, 22_436_432),
        ("deit_base_distilled_patch16_224", 768, 2, 87_338_192),
    ],
)
def test_counts_of_the_published_models_with_their_thousand_classes(variant, width, classifiers, count):
    assert documented_count(variant) + classifiers * 1000 * (width + 1) == count


@pytest.mark.parametrize("variant", ["vit_micro_patch4_32", "deit_tiny_distilled_patch16_224"])
@pytest.mark.usefixtures("unfilled")
def test_classifiers_have_a_thousand_classes(variant):
    model = create_model(variant)
    width, classifiers = model.backbone.config.hidden_dim, 1 + getattr(model.backbone, "distilled", False)
    assert model.num_classes == 1000
    assert model.count_params() == documented_count(variant) + classifiers * 1000 * (width + 1)


@pytest.mark.parametrize(
    ("variant", "width", "classes", "millions"),
    [("cct_2_3x2_32", 128, 10, 0.28), ("cct_7_3x1_32", 256, 10, 3.76), ("clip_base_patch32", 0, 1, 151.28)],
)
def test_counts_that_papers_give_in_millions(variant, width, classes, millions):
    assert round((documented_count(variant) + classes * (width + 1)) / 1e6, 2) == millions


def test_heads_count_too():
    assert create_model("bert_tiny").count_params() == documented_count("bert_tiny") + 128 * 2 + 2


@pytest.mark.parametrize("variant", list_models())
def test_every_family_has_a_tiny_model(variant):
    family = tiny.family_of(variant)
    assert family in tiny.FAMILIES, f"add {family} to tests/models/tiny.py: no test runs it"
    assert type(tiny.tiny(family).backbone).__name__ == family


@pytest.mark.parametrize("variant", list_models())
def test_every_variant_is_public(variant):
    assert variant in kzoo.models.__all__
    assert getattr(kzoo.models, variant) is get_variant(variant)


def test_models_have_their_variants_name():
    assert tiny.tiny("Bert").name == "bert_tiny"
    assert tiny.tiny("Bert", name="topic").name == "topic"


def test_list_models_takes_a_pattern():
    assert list_models("vit_*_patch16_224") == [
        "vit_base_patch16_224",
        "vit_large_patch16_224",
        "vit_small_patch16_224",
        "vit_tiny_patch16_224",
    ]
    assert list_models("nothing*") == []


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("bert_bsae", {}, "Unknown model 'bert_bsae'. Did you mean 'bert_base'"),
        ("bert_tiny", {"num_layer": 2}, "Unknown option 'num_layer' for Bert. Did you mean 'num_layers'"),
        ("bert_tiny", {"task": "classificaton"}, "no such task exists. Did you mean 'classification'"),
        ("bert_tiny", {"task": "seq2seq"}, "Bert cannot carry it. Valid: classification, embedding"),
        ("bert_tiny", {"hidden_dim": 130, "num_heads": 4}, "hidden_dim=130 is not a multiple of num_heads=4"),
        ("bert_tiny", {"activation": "gleu"}, "Unknown activation 'gleu'. Did you mean 'gelu'"),
        ("bert_tiny", {"dropout": 1.0}, "dropout=1.0 is not a rate"),
        ("bert_tiny", {"num_layers": 0}, "num_layers=0 is not a positive whole number"),
        ("bert_tiny", {"vocab_size": 10.5}, "vocab_size=10.5 is not a positive whole number"),
        ("bert_tiny", {"labels": ["a", "b"], "num_classes": 3}, "num_classes=3, but there are 2 labels"),
        ("bert_tiny", {"labels": ["a", "a"]}, "Some labels are there twice"),
        ("bert_tiny", {"num_classes": 0}, "num_classes=0 is not a positive whole number"),
        ("bert_tiny", {"task": "features", "num_classes": 2}, "task='features' has no classes"),
        ("gpt2_small", {"labels": ["a"]}, "task='causal_lm' has no classes: leave labels out"),
        ("bert_tiny", {"task": "embedding", "pooling": "men"}, "Unknown pooling 'men'. Did you mean 'mean'"),
        ("bert_tiny", {"max_length": 513}, "max_length=513 exceeds the model's 512 positions"),
        ("vit_micro_patch4_32", {"image_size": 30}, "image_size=30 is not a multiple of patch_size=4"),
        ("transformer_tiny", {"hidden_dim": 15, "num_heads": 3}, "hidden_dim=15 is odd"),
        ("vit_micro_patch4_32", {"num_channels": 4}, "num_channels=4: images are grey"),
        ("vit_micro_patch4_32", {"tokenizer": "tokenizer.json"}, "no tokenizer file"),
        ("cct_7_3x1_32", {"kernel_size": 4}, "kernel_size=4 is even"),
        ("cct_7_3x1_32", {"image_size": 2}, "image_size=2 is too small for num_convolutions=1"),
        ("clip_base_patch32", {"vision_num_heads": 7}, "hidden_dim=768 is not a multiple of num_heads=7"),
        ("bert_tiny", {"tokenizer": "nowhere/tokenizer.json"}, "no tokenizer file nowhere"),
    ],
)
def test_mistakes(name, options, message):
    with pytest.raises(KzooError) as caught:
        create_model(name, **options)
    assert message in str(caught.value)


def test_a_tokenizer_must_fit(wordpiece, bpe):
    with pytest.raises(
        KzooError, match=rf"only vocab_size=50: build the model with vocab_size={bpe.vocab_size}"
    ):
        tiny.tiny("Bert", vocab_size=50, tokenizer=bpe)
    with pytest.raises(KzooError, match="ViT reads images: it has no use for a tokenizer"):
        tiny.tiny("ViT", tokenizer=wordpiece)
