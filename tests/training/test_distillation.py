"""What a student learns from a teacher: the losses, the teacher's outputs on disk, and the training itself."""

from __future__ import annotations

import keras
import numpy as np
import pytest

import kzoo
from kzoo import KzooError
from kzoo.models import TransformerModel, bert_tiny
from kzoo.text import Tokenizer
from kzoo.text.pruning import prune_tokenizer
from kzoo.training import Distillation, imitation, map_layers, teachers
from kzoo.training.teachers import TeacherOutputs, Wanted
from tests.bundles import write_text_classifier
from tests.models.tiny import tiny

TEXTS = ["the good dog runs", "a bad cat sleeps now", "good good bird", "the bad bad fish swims"] * 6
LABELS = ["good", "bad", "good", "bad"] * 6
OPTIONS = {"intermediate_dim": 48, "max_positions": 32, "dropout": 0.0, "attention_dropout": 0.0}


def softmax(logits: np.ndarray) -> np.ndarray:
    weights = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return weights / weights.sum(axis=-1, keepdims=True)


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return Tokenizer.train(TEXTS, vocab_size=120)


def model(tokenizer: Tokenizer, seed: int = 0, **options) -> TransformerModel:
    keras.utils.set_random_seed(seed)
    defaults = {"hidden_dim": 32, "num_layers": 2, "num_heads": 2, "labels": ["bad", "good"], **OPTIONS}
    return bert_tiny(tokenizer=tokenizer, vocab_size=tokenizer.vocab_size, **{**defaults, **options})


@pytest.fixture(scope="module")
def teacher(tokenizer) -> TransformerModel:
    trained = model(tokenizer, seed=1, num_heads=4)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    trained.compile(optimizer=keras.optimizers.Adam(5e-3), loss=loss)
    trained.fit(TEXTS, LABELS, epochs=10, batch_size=8, verbose=0)
    return trained


# The losses.


def loss(function, *arguments):
    tensors = [
        keras.ops.convert_to_tensor(each) if isinstance(each, np.ndarray) else each for each in arguments
    ]
    return keras.ops.convert_to_numpy(function(*tensors))


@pytest.mark.backend
def test_losses_are_those_of_their_papers():
    random = np.random.default_rng(0)
    student, other = random.normal(size=(2, 5, 3)).astype("float32")
    wanted, got = softmax(other / 4), softmax(student / 4)
    divergence = 16 * (wanted * np.log(wanted / got)).sum(axis=-1)
    np.testing.assert_allclose(loss(imitation.softened_loss, student, other, 4.0), divergence, atol=1e-4)

    yes, asked = 1 / (1 + np.exp(-other / 2)), 1 / (1 + np.exp(-student / 2))
    binary = 4 * (yes * np.log(yes / asked) + (1 - yes) * np.log((1 - yes) / (1 - asked)))
    found = loss(imitation.softened_binary_loss, student, other, 2.0)
    np.testing.assert_allclose(found, binary.mean(axis=-1), atol=1e-4)

    real = np.array([[1, 1, 1, 0], [1, 0, 0, 0]], "float32")
    states, others = random.normal(size=(2, 2, 4, 6)).astype("float32")
    squares = ((states - others) ** 2).mean(axis=-1)
    expected = [squares[0, :3].mean(), squares[1, 0]]
    np.testing.assert_allclose(loss(imitation.states_loss, states, others, real), expected, atol=1e-5)

    maps = softmax(random.normal(size=(2, 2, 3, 4, 4)).astype("float32"))
    each = (maps[1] * np.log(maps[1] / maps[0])).sum(axis=-1).mean(axis=1)
    expected = [each[0, :3].mean(), each[1, 0]]
    np.testing.assert_allclose(loss(imitation.attention_loss, *maps, real), expected, atol=1e-5)

    cosines = (student * other).sum(-1) / np.linalg.norm(student, axis=-1) / np.linalg.norm(other, axis=-1)
    np.testing.assert_allclose(loss(imitation.embedding_loss, student, other), 1 - cosines, atol=1e-5)
    squared = ((student - other) ** 2).sum(axis=-1)
    np.testing.assert_allclose(loss(imitation.embedding_loss, student, other, "mse"), squared, rtol=1e-5)


@pytest.mark.parametrize(
    ("layers", "student", "of_teacher", "expected"),
    [
        ("uniform", 3, 6, [2, 4, 6]),
        ("uniform", 4, 6, [2, 3, 5, 6]),
        ("last", 2, 6, [5, 6]),
        ("first", 2, 6, [1, 2]),
        ([1, 6], 2, 6, [1, 6]),
        ([6, 6, 6], 3, 6, [6, 6, 6]),
    ],
)
def test_layers_are_mapped(layers, student, of_teacher, expected):
    assert map_layers(layers, student, of_teacher) == expected


@pytest.mark.parametrize(
    ("layers", "student", "said"),
    [
        ("uniforn", 2, "Did you mean 'uniform'"),
        ("last", 7, "7 layers and the teacher 6"),
        ([0, 1], 2, "counted from 1"),
        ([1], 2, "for each of the student's 2"),
    ],
)
def test_layers_that_are_none_are_refused(layers, student, said):
    with pytest.raises(KzooError, match=said):
        map_layers(layers, student, 6)


# The teacher's outputs on disk.


class Counting:
    """A teacher whose outputs tell the texts, and that counts what it is asked; it may be killed on the way."""

    def __init__(self, name: str = "one", until: int | None = None) -> None:
        self.name, self.until, self.asked = name, until, 0

    def digest(self) -> str:
        return self.name

    def rows(self, x, wanted):
        self.asked += len(x)
        if self.until is not None and self.asked > self.until:
            raise KeyboardInterrupt
        sizes = [len(text) for text in x]
        return {
            "logits": [np.full(2, size + 0.5) for size in sizes],
            "hidden_1": [np.arange(size * 3.0).reshape(size, 3) for size in sizes],
            "attention_1": [np.full((2, size, size), 1.0 / size) for size in sizes],
        }


WANTED = Wanted(outputs=("logits",), hidden=(1,), attention=(1,))


def check_outputs(outputs: TeacherOutputs, texts: list[str]) -> None:
    rows = np.array([4, 0, 4])
    found = outputs.take(rows, 12)
    assert {name: value.shape for name, value in found.items()} == {
        "logits": (3, 2),
        "hidden_1": (3, 12, 3),
        "attention_1": (3, 2, 12, 12),
    }
    for place, row in enumerate(rows):
        size = len(texts[row])
        assert found["logits"][place].tolist() == [size + 0.5] * 2
        np.testing.assert_array_equal(found["hidden_1"][place, :size].ravel(), np.arange(size * 3))
        assert not found["hidden_1"][place, size:].any()
        np.testing.assert_allclose(found["attention_1"][place, 0, :size].sum(axis=-1), 1, atol=2e-3)
        assert not found["attention_1"][place, :, :, size:].any()


def test_outputs_are_asked_for_once(tmp_path):
    texts = ["a" * (1 + 5 * place % 11) for place in range(9)]
    first, again, other = Counting(), Counting(), Counting("another")
    check_outputs(TeacherOutputs(first, texts, WANTED, tmp_path), texts)
    check_outputs(TeacherOutputs(again, texts, WANTED, tmp_path), texts)
    TeacherOutputs(other, texts, WANTED, tmp_path)
    TeacherOutputs(again, texts[:-1], WANTED, tmp_path)
    assert (first.asked, again.asked, other.asked) == (9, 8, 9)


def test_asking_goes_on_where_it_was_killed(tmp_path, monkeypatch):
    monkeypatch.setattr(teachers, "_CHUNK", 2)
    texts = ["a" * (1 + 5 * place % 11) for place in range(9)]
    with pytest.raises(KeyboardInterrupt):
        TeacherOutputs(Counting(until=5), texts, WANTED, tmp_path)
    (folder,) = tmp_path.iterdir()
    # As if the process had been killed while it wrote the third part.
    with (folder / "hidden_1").open("ab") as file:
        file.write(b"\1" * 7)
    rest = Counting()
    check_outputs(TeacherOutputs(rest, texts, WANTED, tmp_path), texts)
    assert rest.asked == 5


def test_what_is_damaged_is_asked_for_again(tmp_path):
    texts = ["a" * (1 + 5 * place % 11) for place in range(9)]
    folder = TeacherOutputs(Counting(), texts, WANTED, tmp_path).path
    (folder / "hidden_1").write_bytes(b"cut")
    again = Counting()
    check_outputs(TeacherOutputs(again, texts, WANTED, tmp_path), texts)
    assert again.asked == 9


def test_outputs_that_are_no_numbers_are_refused(tmp_path):
    class Broken(Counting):
        def rows(self, x, wanted):
            return {"logits": [np.array([np.nan])] * len(x)}

    with pytest.raises(KzooError, match="teacher's logits are no numbers"):
        TeacherOutputs(Broken(), ["a"], WANTED, tmp_path)


# The training.


@pytest.mark.slow
def test_a_narrower_student_comes_nearer_in_every_part(tokenizer, teacher, tmp_path):
    student = model(tokenizer, hidden_dim=16, num_layers=1)
    parts = {"labels": 0.5, "logits": 1.0, "hidden": 1.0, "attention": 1.0}
    distillation = Distillation(
        student, teacher, weights=parts, layers=[2], cache=tmp_path, unlabelled=["a good fish", "cat cat"]
    )
    distillation.compile(optimizer=keras.optimizers.Adam(5e-3))
    held = (TEXTS[:4], LABELS[:4])
    history = distillation.fit(
        TEXTS, LABELS, epochs=10, batch_size=8, validation_data=held, verbose=0
    ).history
    for part in parts:
        assert history[f"{part}_loss"][-1] < history[f"{part}_loss"][0], part
        assert history[f"val_{part}_loss"][-1] < history[f"val_{part}_loss"][0], part
    assert history["val_accuracy"][-1] == 1.0

    distillation.save(tmp_path / "saved.keras")
    opened = keras.saving.load_model(tmp_path / "saved.keras")
    np.testing.assert_allclose(
        opened.student.predict(TEXTS[:4], verbose=0)["logits"],
        student.predict(TEXTS[:4], verbose=0)["logits"],
        atol=1e-5,
    )
    with pytest.raises(KzooError, match="does not hold the teacher"):
        opened.fit(TEXTS, LABELS)


@pytest.mark.slow
def test_a_teacher_is_enough_without_labels(tokenizer, teacher):
    student = model(tokenizer, num_layers=1)
    distillation = Distillation(student, teacher, weights={"logits": 1.0})
    distillation.compile(optimizer=keras.optimizers.Adam(5e-3), run_eagerly=True)
    history = distillation.fit(TEXTS, epochs=10, batch_size=8, verbose=0).history
    assert sorted(history) == ["logits_loss", "loss"]
    said = [each.predict(TEXTS[:4], verbose=0)["logits"].argmax(axis=-1) for each in (teacher, student)]
    assert said[0].tolist() == said[1].tolist() == [1, 0, 1, 0]


@pytest.mark.slow
def test_embeddings_are_learnt_through_a_projection(tokenizer):
    options = {"task": "embedding", "labels": None}
    teacher, student = model(tokenizer, 1, **options), model(tokenizer, hidden_dim=16, **options)
    distillation = Distillation(student, teacher)
    distillation.compile(optimizer=keras.optimizers.Adam(5e-3), run_eagerly=True)
    history = distillation.fit(TEXTS, epochs=6, batch_size=8, verbose=0).history
    assert history["embedding_loss"][-1] < 0.5 * history["embedding_loss"][0]


def test_a_bundle_teaches_by_the_names_of_its_classes(tmp_path):
    pipeline = kzoo.load(write_text_classifier(tmp_path / "topic"), device="cpu")
    labels = list(pipeline.manifest.labels)
    texts = ["the bank and the market", "the dog"]
    wanted = Wanted(outputs=("logits",))
    logits = teachers.BundleTeacher(pipeline, labels[::-1]).rows(texts, wanted)["logits"]
    np.testing.assert_allclose(softmax(np.array(logits))[:, ::-1], pipeline.probabilities(texts), atol=1e-6)
    with pytest.raises(KzooError, match="has the classes"):
        teachers.BundleTeacher(pipeline, [*labels[1:], "other"])


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"weights": {"logit": 1.0}}, "Did you mean 'logits'"),
        ({"weights": {"embedding": 1.0}}, "no embedding to learn by"),
        ({"weights": {"logits": 0.0}}, "nothing to learn"),
        ({"weights": {"logits": -1.0}}, "0 or more"),
        ({"temperature": 0.0}, "temperature=0.0"),
        ({"embedding": "cosinus"}, "Did you mean 'cosine'"),
        ({"weights": {"hidden": 1.0}, "layers": [1]}, "for each of the student's 2"),
    ],
)
def test_what_makes_no_sense_is_refused(tokenizer, teacher, options, said):
    with pytest.raises(KzooError, match=said):
        Distillation(model(tokenizer), teacher, **options)


def test_hidden_states_need_the_same_pieces(tokenizer, teacher):
    other = Tokenizer.train(TEXTS, vocab_size=40)
    student = model(other)
    with pytest.raises(KzooError, match=r"splits 8 of 8 texts .*'the good dog runs'"):
        Distillation(student, teacher, weights={"hidden": 1.0}).fit(TEXTS[:8], verbose=0)


@pytest.mark.parametrize("part", ["hidden", "attention"])
def test_texts_that_are_split_otherwise_have_no_part_in_what_is_learnt_token_by_token(teacher, part):
    small = prune_tokenizer(teacher.tokenizer, ["the good dog runs", "good good bird"])
    student = model(small, num_layers=1)

    def loss_of(texts: list[str]) -> float:
        distillation = Distillation(student, teacher, weights={part: 1.0})
        distillation.compile(optimizer=keras.optimizers.SGD(0.0), run_eagerly=True)
        return distillation.fit(texts, epochs=1, batch_size=8, verbose=0).history[f"{part}_loss"][0]

    same, others = ["the good dog runs", "good good bird"], ["a bad cat sleeps now", "the bad bad fish swims"]
    np.testing.assert_allclose(loss_of(same + others), loss_of(same), rtol=1e-5)
    with pytest.raises(KzooError, match=r"splits 2 of 3 texts .*'a bad cat sleeps now'"):
        loss_of(same[:1] + others)
    # What is only compared with may be split otherwise altogether.
    distillation = Distillation(student, teacher, weights={part: 1.0})
    distillation.compile(optimizer=keras.optimizers.SGD(0.0), run_eagerly=True)
    history = distillation.fit(same, validation_data=(others,), batch_size=8, verbose=0).history
    assert history[f"val_{part}_loss"] == [0.0]


@pytest.mark.parametrize("part", ["hidden", "attention"])
def test_images_are_learnt_from_patch_by_patch(part):
    keras.utils.set_random_seed(0)
    teacher, student = tiny("ViT", num_layers=4), tiny("ViT")
    images = np.random.default_rng(0).integers(0, 256, (16, 8, 8, 3)).astype("uint8")
    distillation = Distillation(student, teacher, weights={part: 1.0})
    distillation.compile(optimizer=keras.optimizers.Adam(1e-2), run_eagerly=True)
    history = distillation.fit(images, epochs=6, batch_size=8, verbose=0).history[f"{part}_loss"]
    assert history[-1] < 0.8 * history[0]
    with pytest.raises(KzooError, match=r"5 tokens for the teacher and 17 for the student"):
        Distillation(tiny("ViT", patch_size=2), teacher, weights={part: 1.0}).fit(images, verbose=0)


def test_labels_that_have_a_weight_are_needed(tokenizer, teacher):
    with pytest.raises(KzooError, match="there are no labels"):
        Distillation(model(tokenizer), teacher).fit(TEXTS)
