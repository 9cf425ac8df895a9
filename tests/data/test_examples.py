import hashlib
from collections import Counter

import numpy as np
import pytest

from kzoo import KzooError
from kzoo.data import Examples, class_names, folds, split, split_by_hash
from tests.optional import require


@pytest.fixture(autouse=True)
def _sklearn():
    require("sklearn")


def test_a_split_keeps_each_class_and_every_example():
    examples = Examples(
        [f"text {i}" for i in range(100)], ["rare" if i % 5 == 0 else "common" for i in range(100)]
    )
    rest, held = split(examples, 0.2)
    assert held.targets.count("rare") == 4
    assert sorted([*rest.inputs, *held.inputs]) == sorted(examples.inputs)
    for text, label in zip(held.inputs, held.targets, strict=True):
        assert label == examples.targets[examples.inputs.index(text)]
    assert split(examples, 0.2)[1].inputs == held.inputs
    assert split(examples, 0.2, seed=1)[1].inputs != held.inputs


def test_images_are_split_with_their_labels():
    images = np.arange(10, dtype=np.uint8).reshape(10, 1, 1, 1)
    rest, held = split(Examples(images, [str(i % 2) for i in range(10)]), 0.4)
    assert [str(image.item() % 2) for image in held.inputs] == held.targets
    assert len(rest) == 6


def test_texts_to_texts_have_no_classes():
    pairs = Examples(["a", "b", "c", "d"], ["w", "x", "y", "z"])
    assert len(split(pairs, 0.25, stratify=False)[1]) == 1


def test_impossible_splits():
    with pytest.raises(KzooError, match="Only one example has the label 'y'"):
        split(Examples(["a", "b", "c"], ["x", "x", "y"]), 0.5)
    with pytest.raises(KzooError, match=r"Cannot set 0\.1 of 4 examples aside"):
        split(Examples(["a", "b", "c", "d"], ["x", "x", "y", "y"]), 0.1)


def test_classes_are_sorted_by_number_only_if_all_are_numbers():
    assert class_names(["10", "9", "10"]) == ["9", "10"]
    assert class_names(["10", "9", "none"]) == ["10", "9", "none"]


def test_several_labels_are_split_by_the_rarest():
    targets = [["common", "rare"] if row % 10 == 0 else ["common"] for row in range(100)]
    _, held = split(Examples([f"text {row}" for row in range(100)], targets), 0.2)
    assert sum("rare" in target for target in held.targets) == 2
    lonely = Examples(list("abcdefgh"), [["x", "once"], ["x"], [], ["x"], [], ["x"], ["x"], []])
    assert len(split(lonely, 0.25)[1]) == 2


def test_numbers_are_split_by_chance():
    examples = Examples([f"text {row}" for row in range(20)], [row / 20 for row in range(20)])
    rest, held = split(examples, 0.25)
    assert sorted(rest.targets + held.targets) == examples.targets


def test_each_example_is_in_one_fold():
    examples = Examples(
        [f"text {row}" for row in range(30)], ["rare" if row < 6 else "common" for row in range(30)]
    )
    parts = list(folds(examples, 3, seed=1))
    assert sorted(text for _, held in parts for text in held.inputs) == sorted(examples.inputs)
    for rest, held in parts:
        assert Counter(held.targets) == {"rare": 2, "common": 8}
        assert not set(rest.inputs) & set(held.inputs)
    assert [held.inputs for _, held in folds(examples, 3, seed=1)] == [held.inputs for _, held in parts]
    assert [held.inputs for _, held in folds(examples, 3, seed=2)] != [held.inputs for _, held in parts]
    numbers = Examples(list("abcdef"), [0.1, 0.2, 0.3, 0.4, 0.5, 0.6])
    assert sorted(len(held) for _, held in folds(numbers, 4)) == [1, 1, 2, 2]
    several = Examples(list("abcdef"), [["x"], ["x", "y"], [], ["y"], ["x"], ["x", "once"]])
    assert sorted(len(held) for _, held in folds(several, 3)) == [2, 2, 2]


def test_impossible_folds():
    with pytest.raises(KzooError, match="Only 2 examples have the label 'y', too few for 3 folds"):
        list(folds(Examples(list("abcdef"), list("xxxxyy")), 3))
    with pytest.raises(KzooError, match="Cannot make 4 folds of 3 examples"):
        list(folds(Examples(list("abc"), [0.1, 0.2, 0.3]), 4))
    with pytest.raises(KzooError, match="Cannot make 1 folds"):
        list(folds(Examples(list("abc"), [0.1, 0.2, 0.3]), 1))


def test_labels_that_look_like_ids_are_said_so():
    examples = Examples([f"text {row}" for row in range(100)], [f"id {row}" for row in range(100)])
    with pytest.raises(KzooError, match="There are 100 labels for 100 examples: are these the labels"):
        split(examples, 0.5)


def test_a_split_by_hash_depends_on_each_text_alone():
    texts = [f"text {row}" for row in range(200)]
    rest, held = split_by_hash(Examples(texts, texts), 51)
    assert held.inputs == [text for text in texts if hashlib.sha256(text.encode()).digest()[0] < 51]
    assert len(rest) + len(held) == 200
    few = split_by_hash(Examples(texts[:100], texts[:100]), 51)[1]
    assert few.inputs == [text for text in held.inputs if text in texts[:100]]
    pairs = Examples([(text, "other") for text in texts], texts)
    assert split_by_hash(pairs, 51)[1].targets == held.targets
    with pytest.raises(KzooError, match="Of 3 texts 0 have a sha256"):
        split_by_hash(Examples(rest.inputs[:3], texts[:3]), 51)
