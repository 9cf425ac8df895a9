"""Trainings without labels: replaced tokens and hidden patches."""

from __future__ import annotations

import keras
import numpy as np
import pytest

from kzoo import KzooError
from kzoo.models import with_task
from kzoo.text import Tokenizer
from kzoo.training import MaskedBatches, MaskedImages, Masking, ReplacedTokenDetection
from kzoo.training.objectives import IGNORED
from kzoo.training.pretraining import Pretraining
from tests.models.tiny import tiny

TEXTS = ["the good dog runs in the park", "a bad cat sleeps now", "good birds sing", "the fish swims"] * 8


def arrays(tensors):
    return {name: keras.ops.convert_to_numpy(value) for name, value in tensors.items()}


@pytest.fixture(scope="module")
def tokenizer():
    return Tokenizer.train(TEXTS, vocab_size=120)


def detection(tokenizer, **options):
    keras.utils.set_random_seed(0)
    knobs = {"num_heads": 4, "vocab_size": tokenizer.vocab_size, "tokenizer": tokenizer}
    return ReplacedTokenDetection(tiny("Electra", task="replaced_token", **{**knobs, **options}))


def test_what_is_drawn_is_to_be_found(tokenizer):
    made = detection(tokenizer)
    inputs, labels = made.encoder(TEXTS)
    hidden, real = labels != IGNORED, inputs["attention_mask"] > 0
    found = arrays(made(inputs))
    assert found["logits"].shape == labels.shape and found["generator_logits"].shape == (
        *labels.shape,
        tokenizer.vocab_size,
    )
    assert (found["replaced"][~real] == IGNORED).all()
    assert (found["replaced"][real & ~hidden] == 0).all()
    # A generator that knows nothing draws the right token now and then alone.
    assert found["replaced"][hidden].mean() > 0.8
    # Nothing is learnt: the same tokens are drawn again.
    np.testing.assert_array_equal(arrays(made(inputs))["replaced"], found["replaced"])
    assert any((arrays(made(inputs, training=True))["replaced"] != found["replaced"]).any() for _ in range(3))


@pytest.mark.slow
def test_both_networks_learn_from_texts(tokenizer):
    made = detection(tokenizer, num_layers=1)
    before = [keras.ops.convert_to_numpy(value) for value in made.discriminator.backbone.weights]
    made.compile(keras.optimizers.Adam(5e-3))
    logs = made.fit(TEXTS, epochs=8, batch_size=16, validation_data=(TEXTS[:4],), verbose=0).history
    assert logs["generator_loss"][-1] < logs["generator_loss"][0]
    assert logs["discriminator_loss"][-1] < logs["discriminator_loss"][0]
    assert logs["loss"][0] == pytest.approx(
        logs["generator_loss"][0] + 50 * logs["discriminator_loss"][0], rel=0.02
    )
    assert {"generator_accuracy", "discriminator_accuracy", "val_loss"} <= logs.keys()
    after = [keras.ops.convert_to_numpy(value) for value in made.discriminator.backbone.weights]
    assert all((one != other).any() for one, other in zip(before, after, strict=True))
    assert with_task(made.discriminator, "classification", num_classes=2).tokenizer is tokenizer


def test_packed_rows_go_in_too(tokenizer):
    made = detection(tokenizer, num_layers=1)
    ids = [row[row > 0] for row in tokenizer.encode(TEXTS, max_length=16).input_ids]
    masking = Masking(tokenizer.mask_id, tokenizer.vocab_size, tokenizer.special_ids)
    inputs, labels = next(MaskedBatches(ids, masking, length=16, rows=4).one_pass())
    read, told = made.encoder(inputs, labels)
    np.testing.assert_array_equal(told, labels)
    found = arrays(made(read))
    assert found["logits"].shape == (4, 16) and "document_starts" in read
    assert ((found["replaced"] == 1) <= (labels != IGNORED)).all()


def test_models_that_cannot_play_the_two(tokenizer):
    electra = tiny("Electra", task="replaced_token", num_heads=2)
    for models, message in (
        ((tiny("Bert", task="mlm"),), "The discriminator is for the task 'mlm'"),
        ((electra, electra), "The generator is for the task 'replaced_token'"),
        ((electra, tiny("Bert", task="mlm", vocab_size=200)), "300 tokens, the generator 200"),
        ((electra,), "num_heads=2, intermediate_dim=24: a generator of a fourth"),
    ):
        with pytest.raises(KzooError, match=message):
            ReplacedTokenDetection(*models)
    with pytest.raises(KzooError, match="write its `encoder`"):
        Pretraining(8, "nothing").fit(TEXTS)


def test_patches_are_hidden_and_painted():
    model = tiny("ViT")
    painting = MaskedImages(model, share=0.5)
    assert (painting.patches, painting.hidden_patches) == (4, 2)
    images = np.random.default_rng(0).normal(size=(3, 8, 8, 3)).astype("float32")
    found = arrays(painting({"pixel_values": images}))
    assert found["hidden"].sum(axis=1).tolist() == [2, 2, 2]
    np.testing.assert_allclose(found["pixels"][:, 1], images[:, :4, 4:].reshape(3, -1))
    # What is hidden has no part in what is painted; what is shown has.
    for hidden in (1, 0):
        changed = images.copy()
        for image, patch in enumerate((found["hidden"] == hidden).argmax(axis=1)):
            row, column = divmod(patch, 2)
            changed[image, 4 * row : 4 * row + 4, 4 * column : 4 * column + 4] += 1
        again = arrays(painting({"pixel_values": changed}))["painted"]
        assert np.allclose(again, found["painted"], atol=1e-6) == bool(hidden)


@pytest.mark.slow
def test_a_model_learns_to_paint():
    keras.utils.set_random_seed(0)
    model = tiny("ViT", labels=["dark", "light"])
    shades = np.repeat([[0], [255]], 16, axis=0).reshape(-1, 1, 1, 1)
    images = np.broadcast_to(shades, (32, 8, 8, 3)).astype("uint8")
    painting = MaskedImages(model)
    painting.compile(keras.optimizers.Adam(1e-2))
    head = keras.ops.convert_to_numpy(model.head.weights[0])
    logs = painting.fit(images, epochs=12, batch_size=16, validation_data=(images,), verbose=0).history
    # Without a look at the other patches, black or white could not be told: 1 apart on average.
    assert logs["loss"][0] > 0.8 > 0.5 > logs["val_loss"][-1]
    np.testing.assert_array_equal(keras.ops.convert_to_numpy(model.head.weights[0]), head)


def test_models_without_patches():
    with pytest.raises(KzooError, match="CCT does not cut images into patches alone"):
        MaskedImages(tiny("CCT"))
    with pytest.raises(KzooError, match="CLIP does not cut"):
        MaskedImages(tiny("CLIP"))
    with pytest.raises(KzooError, match=r"share=0\.01 hides 0 of 4 patches"):
        MaskedImages(tiny("ViT"), share=0.01)


@pytest.mark.backend
def test_both_networks_of_replaced_tokens_are_saved(tokenizer, tmp_path):
    made = detection(tokenizer)
    made.fit(TEXTS, verbose=0)
    made.save(tmp_path / "detection.keras")
    opened = keras.saving.load_model(tmp_path / "detection.keras")
    assert opened.weight == made.weight
    for one, other in zip(made.weights, opened.weights, strict=True):
        assert one.path.endswith(other.path)
        np.testing.assert_array_equal(*map(keras.ops.convert_to_numpy, (one, other)))


@pytest.mark.backend
def test_painting_is_saved_with_what_it_paints_with(tmp_path):
    keras.utils.set_random_seed(0)
    painting = MaskedImages(tiny("ViT"), share=0.5)
    config = painting.backbone.config
    images = np.random.default_rng(0).normal(size=(2, config.image_size, config.image_size, 3))
    painting.fit(images, batch_size=2, verbose=0)
    painting.save(tmp_path / "painting.keras")
    opened = keras.saving.load_model(tmp_path / "painting.keras")
    assert opened.hidden_patches == painting.hidden_patches
    same = (arrays(each(images.astype("float32")))["painted"] for each in (painting, opened))
    np.testing.assert_allclose(*same, atol=1e-5)
