import numpy as np
import pytest

from kzoo import KzooError
from kzoo.data import Examples, class_names, split
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
