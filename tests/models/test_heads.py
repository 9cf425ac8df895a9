"""What each head makes of a backbone's features, and what may be asked of it."""

from __future__ import annotations

import keras
import numpy as np
import pytest

from kzoo.errors import KzooError
from kzoo.models import TransformerModel
from kzoo.models.heads import ClassificationHead, ImageTextSimilarityHead, LanguageModelHead
from tests.models.tiny import VOCAB_SIZE, make_inputs, outputs, shaken, tiny

pytestmark = pytest.mark.backend


def paths(model: TransformerModel) -> set[str]:
    """Return the head's variables, by the names that tables of checkpoints use."""
    return {variable.path.split("/", 1)[1] for variable in model.weights if "/head/" in variable.path}


@pytest.mark.parametrize(
    ("family", "task", "variables"),
    [
        ("Bert", "classification", {"classifier/kernel", "classifier/bias"}),
        ("Bert", "next_sentence", {"classifier/kernel", "classifier/bias"}),
        ("Bert", "tokens", {"classifier/kernel", "classifier/bias"}),
        ("Bert", "qa", {"span/kernel", "span/bias"}),
        ("Bert", "mlm", {"dense/kernel", "dense/bias", "norm/gamma", "norm/beta", "bias"}),
        ("Bert", "embedding", set()),
        (
            "DistilBert",
            "classification",
            {"dense/kernel", "dense/bias", "classifier/kernel", "classifier/bias"},
        ),
        (
            "Electra",
            "replaced_token",
            {"dense/kernel", "dense/bias", "classifier/kernel", "classifier/bias"},
        ),
        ("GPT2", "causal_lm", set()),
        ("CLIP", "image_text_similarity", {"logit_scale"}),
    ],
)
def test_variables_have_the_names_that_tables_refer_to(family, task, variables):
    assert paths(tiny(family, task=task)) == {f"head/{name}" for name in variables}


def test_masked_words_are_guessed_through_the_table():
    model = shaken(tiny("Electra", task="mlm"))
    inputs = make_inputs(model)
    before = outputs(model, inputs)["logits"]
    bias = model.head.bias
    bias.assign(keras.ops.convert_to_numpy(bias.value) + np.arange(VOCAB_SIZE))
    after = outputs(model, inputs)["logits"]
    np.testing.assert_allclose(
        after - before, np.broadcast_to(np.arange(VOCAB_SIZE), before.shape), atol=1e-3
    )
    assert model.head.hidden.units == model.backbone.config.embedding_dim


def test_unread_poolers_do_not_learn():
    assert any("pooler" in variable.path for variable in tiny("Bert").trainable_variables)
    assert not any("pooler" in variable.path for variable in tiny("Bert", task="tokens").trainable_variables)


@pytest.mark.parametrize("pooling", ["mean", "max", "cls"])
def test_pooling_is_of_real_tokens(pooling):
    model = shaken(tiny("Bert", task="embedding", pooling=pooling, normalize=False))
    inputs = make_inputs(model)
    states = model.hidden_states(inputs)[-1]
    for row, (state, mask) in enumerate(zip(states, inputs["attention_mask"], strict=True)):
        real = state[mask == 1]
        expected = {"mean": real.mean(axis=0), "max": real.max(axis=0), "cls": state[0]}[pooling]
        np.testing.assert_allclose(outputs(model, inputs)["embedding"][row], expected, atol=1e-5)


def test_embeddings_have_length_one_unless_told():
    model = shaken(tiny("Bert", task="embedding"))
    unscaled = tiny("Bert", task="embedding", normalize=False)
    unscaled.set_weights(model.get_weights())
    inputs = make_inputs(model)
    unit, free = outputs(model, inputs)["embedding"], outputs(unscaled, inputs)["embedding"]
    lengths = np.linalg.norm(free, axis=1, keepdims=True)
    assert np.abs(lengths - 1.0).max() > 1e-2
    np.testing.assert_allclose(unit, free / lengths, atol=1e-5)


@pytest.mark.parametrize(("layer", "place"), [(0, 0), (1, 1), (2, 2), (-1, 2), (-2, 1), (-3, 0)])
def test_any_hidden_layer_can_be_pooled(layer, place):
    model = shaken(tiny("Bert", task="embedding", pooling="cls", layer=layer, normalize=False))
    inputs = make_inputs(model)
    expected = model.hidden_states(inputs)[place][:, 0]
    np.testing.assert_allclose(outputs(model, inputs)["embedding"], expected, atol=1e-5)


def test_a_distilled_head_averages_two_classifiers():
    head = ClassificationHead(3, distilled=True, name="head")
    head.build((None, 4))
    features = {
        name: keras.random.normal((2, 4), seed=seed)
        for seed, name in enumerate(("pooled", "pooled_distillation"))
    }
    both = (head.output_projection(features["pooled"]), head.distillation(features["pooled_distillation"]))
    expected = keras.ops.convert_to_numpy((both[0] + both[1]) / 2)
    np.testing.assert_allclose(keras.ops.convert_to_numpy(head(features)["logits"]), expected, atol=1e-6)


def test_a_language_model_head_of_its_own():
    table = tiny("GPT2").backbone.token_embedding
    features = {"last_hidden_state": keras.random.normal((2, 3, 16), seed=0)}
    tied = LanguageModelHead(table, scale=0.5, biased=True, name="head")
    untied = LanguageModelHead(table, tied=False, name="head")
    for head in (tied, untied):
        head.build((None, 16))
    tied.bias.assign(np.arange(VOCAB_SIZE))
    untied.projection.kernel.assign(0.5 * keras.ops.convert_to_numpy(table.embeddings.value).T)
    logits = [keras.ops.convert_to_numpy(head(features)["logits"]) for head in (tied, untied)]
    np.testing.assert_allclose(logits[0] - np.arange(VOCAB_SIZE), logits[1], atol=1e-3)


def test_similarities_are_scaled_cosines():
    head = ImageTextSimilarityHead(name="head")
    head.build((None, 4))
    features = {
        "text_embeds": keras.random.normal((3, 4), seed=0),
        "image_embeds": keras.random.normal((2, 4), seed=1),
    }
    got = {name: keras.ops.convert_to_numpy(value) for name, value in head(features).items()}
    cosines = got["image_embeds"] @ got["text_embeds"].T
    assert np.abs(cosines).max() <= 1 + 1e-6
    np.testing.assert_allclose(got["logits_per_image"], cosines / 0.07, rtol=1e-4)
    np.testing.assert_array_equal(got["logits_per_text"], got["logits_per_image"].T)
    assert head({"text_embeds": features["text_embeds"]}).keys() == {"text_embeds"}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"task": "embedding", "layer": 3},
            "layer=3 is none of the model's: 0 is what enters the first block, 2",
        ),
        ({"task": "embedding", "layer": -4}, "layer=-4 is none"),
        ({"task": "next_sentence", "num_classes": 3}, "has the classes next, random"),
        ({"task": "next_sentence", "labels": ["a", "b"]}, "has the classes next, random"),
        ({"task": "qa", "num_classes": 2}, "task='qa' has no classes"),
    ],
)
def test_what_cannot_be_asked_of_a_head(options, message):
    with pytest.raises(KzooError, match=message):
        tiny("Bert", **options)
