"""Smaller models that begin with a larger one's weights."""

from __future__ import annotations

import keras
import numpy as np
import pytest

from kzoo import KzooError
from kzoo.models import prune_units, prune_vocabulary, take_weights
from kzoo.models.initialization import variables
from tests.models.tiny import make_inputs, outputs, shaken, tiny

SENTENCES = ["The dog runs in the park.", "Two birds sing in the tree.", "The bank sold its shares."]


def values(model):
    return {path: keras.ops.convert_to_numpy(variable) for path, variable in variables(model).items()}


@pytest.mark.parametrize("family", ["Bert", "Llama"])
def test_a_student_as_large_is_the_teacher(family):
    teacher = shaken(tiny(family))
    student = take_weights(tiny(family), teacher)
    inputs = make_inputs(teacher)
    for name, value in outputs(teacher, inputs).items():
        np.testing.assert_allclose(outputs(student, inputs)[name], value, atol=1e-5)


def test_blocks_positions_and_units_are_chosen():
    teacher = shaken(tiny("Bert", num_layers=4, num_classes=3))
    student = take_weights(
        tiny("Bert", num_layers=2, num_classes=2, max_positions=8, intermediate_dim=10), teacher, "last"
    )
    mine, theirs = values(student), values(teacher)
    for own, other in ((0, 2), (1, 3)):
        path = "backbone/block_{}/attention/query/kernel"
        np.testing.assert_array_equal(mine[path.format(own)], theirs[path.format(other)])
        expand, contract = (
            f"backbone/block_{{}}/feed_forward/{name}/kernel" for name in ("expand", "contract")
        )
        sizes = np.linalg.norm(theirs[expand.format(other)], axis=0) * np.linalg.norm(
            theirs[contract.format(other)], axis=1
        )
        kept = np.sort(np.argsort(-sizes)[:10])
        np.testing.assert_array_equal(mine[expand.format(own)], theirs[expand.format(other)][:, kept])
        np.testing.assert_array_equal(mine[contract.format(own)], theirs[contract.format(other)][kept])
    positions = "backbone/position_embedding/embeddings"
    np.testing.assert_array_equal(mine[positions], theirs[positions][:8])
    # A head for other classes stays new.
    assert mine["head/classifier/bias"].tolist() == [0.0, 0.0]


@pytest.mark.parametrize(("family", "embedding_dim"), [("Bert", 6), ("Roberta", 9), ("Electra", 6)])
def test_narrower_embeddings_keep_the_directions_in_which_the_teachers_differ(family, embedding_dim):
    teacher = shaken(tiny(family))
    random = np.random.default_rng(0)
    directions = random.normal(size=(5, teacher.backbone.embedding_dim))
    for path, variable in variables(teacher).items():
        if path.endswith("embeddings"):
            # The mean of a row is nothing to the norm.
            rows = random.normal(size=(variable.shape[0], 5)) @ directions
            variable.assign(rows + random.normal(size=(variable.shape[0], 1)))
    student = take_weights(tiny(family, embedding_dim=embedding_dim), teacher)
    assert values(student)["backbone/token_embedding/embeddings"].shape[1] == embedding_dim
    inputs = make_inputs(teacher)
    for name, value in outputs(teacher, inputs).items():
        np.testing.assert_allclose(outputs(student, inputs)[name], value, atol=1e-4)


def test_of_more_directions_those_of_least_spread_go():
    teacher = shaken(tiny("Bert"))
    inputs = make_inputs(teacher)
    wanted = teacher.call_with_features(inputs)[1]["hidden_states"][0]

    def distance(embedding_dim: int) -> float:
        student = take_weights(tiny("Bert", embedding_dim=embedding_dim), teacher)
        found = student.call_with_features(inputs)[1]["hidden_states"][0]
        return float(keras.ops.mean(keras.ops.square(found - wanted)))

    distances = [distance(width) for width in (4, 8, 12, 15)]
    assert distances == sorted(distances, reverse=True)
    assert distances[-1] < 0.1 * distances[0]


def test_another_architecture_or_width_is_refused():
    with pytest.raises(KzooError, match="a DistilBert and the teacher a Bert"):
        take_weights(tiny("DistilBert"), tiny("Bert"))
    with pytest.raises(KzooError, match="has its width"):
        take_weights(tiny("Bert", hidden_dim=8), tiny("Bert"))
    with pytest.raises(KzooError, match="embeddings that are no wider"):
        take_weights(tiny("Bert", embedding_dim=24), tiny("Bert"))
    with pytest.raises(KzooError, match="no single stack of blocks"):
        take_weights(tiny("Bart"), tiny("Bart"))


@pytest.mark.parametrize("task", ["classification", "mlm"])
def test_a_pruned_model_says_the_same_of_kept_texts(wordpiece, task):
    model = shaken(tiny("Bert", task=task, tokenizer=wordpiece))
    pruned = prune_vocabulary(model, SENTENCES[:2])
    tokenizer = pruned.tokenizer
    assert tokenizer.vocab_size == pruned.backbone.config.vocab_size < wordpiece.vocab_size
    mine, theirs = (each.predict(SENTENCES[:2], verbose=0)["logits"] for each in (pruned, model))
    if task == "mlm":
        theirs = theirs[
            ...,
            [
                wordpiece.vocabulary[entry]
                for entry in sorted(tokenizer.vocabulary, key=tokenizer.vocabulary.get)
            ],
        ]
    np.testing.assert_allclose(mine, theirs, atol=1e-5)


def test_a_pruned_model_is_saved_with_its_tokenizer(wordpiece, tmp_path):
    pruned = prune_vocabulary(tiny("Bert", tokenizer=wordpiece), SENTENCES[:1], size=120)
    pruned.save(tmp_path / "pruned.keras")
    opened = keras.saving.load_model(tmp_path / "pruned.keras")
    np.testing.assert_allclose(
        opened.predict(SENTENCES, verbose=0)["logits"],
        pruned.predict(SENTENCES, verbose=0)["logits"],
        atol=1e-5,
    )


@pytest.mark.parametrize("family", ["Bert", "Llama", "ViT"])
def test_units_that_do_nothing_can_go(family):
    model = shaken(tiny(family))
    for path, variable in variables(model).items():
        if path.endswith("contract/kernel"):
            value = keras.ops.convert_to_numpy(variable).copy()
            value[::2] = 0.0
            variable.assign(value)
    pruned = prune_units(model, 0.5)
    assert pruned.backbone.config.intermediate_dim == model.backbone.config.intermediate_dim // 2
    assert pruned.count_params() < model.count_params()
    inputs = make_inputs(model)
    for name, value in outputs(model, inputs).items():
        np.testing.assert_allclose(outputs(pruned, inputs)[name], value, atol=1e-5)


def test_of_which_models_units_can_go():
    with pytest.raises(KzooError, match=r"share=1\.0"):
        prune_units(tiny("Bert"), 1.0)
    with pytest.raises(KzooError, match="no single stack of blocks"):
        prune_units(tiny("Albert"), 0.5)


def test_a_model_without_a_tokenizer_is_refused():
    with pytest.raises(KzooError, match="no tokenizer"):
        prune_vocabulary(tiny("Bert"), SENTENCES)
