"""Pictures of explanations."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
from PIL import Image

from kzoo.errors import KzooError
from kzoo.runtime.attribution import Word
from kzoo.runtime.explanation import Explanation
from kzoo.runtime.shading import draw_attention, draw_words


def explained(words, weights):
    text = " ".join(words)
    found = tuple(Word(word, 0, len(word)) for word in words)
    return Explanation(text, found, np.asarray(weights, float), "a $label$", 0.5, "integrated_gradients")


def colours(path):
    with Image.open(path) as picture:
        return picture.size, {colour for _, colour in picture.convert("RGB").getcolors(2**24)}


def test_words_are_coloured_by_their_weights(tmp_path):
    # A formula that is none, brackets and a line's end are words like any others.
    words = [r"$\\frac{$", "<b>dog</b>", "a\nline"]
    draw_words(explained(words, [0.0, 1.0, 0.0]), tmp_path / "blue.png")
    draw_words(explained(words, [0.0, 0.0, -1.0]), tmp_path / "orange.png")
    draw_words(explained(words, [0.0, 0.0, 0.0]), tmp_path / "none.png")
    seen = {name: colours(tmp_path / f"{name}.png")[1] for name in ("blue", "orange", "none")}
    blue = {name for name, found in seen.items() if any(b > r + 60 for r, _, b in found)}
    orange = {name for name, found in seen.items() if any(r > b + 60 for r, _, b in found)}
    assert (blue, orange) == ({"blue"}, {"orange"})


def test_long_texts_go_on_in_another_line(tmp_path):
    draw_words(explained(["word"], [1.0]), tmp_path / "short.png")
    draw_words(explained(["word"] * 60, [1.0] * 60), tmp_path / "long.png")
    (width, height), _ = colours(tmp_path / "short.png")
    (same, higher), _ = colours(tmp_path / "long.png")
    assert same == width and higher > 1.5 * height


def test_a_head_is_a_heat_map(tmp_path):
    attention = np.eye(3)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        draw_attention(attention, ["[CLS]", "$dog", "[SEP]"], tmp_path / "head.png")
    size, found = colours(tmp_path / "head.png")
    assert size[0] == size[1]
    assert any(b > r + 60 for r, _, b in found)


def test_mistakes(tmp_path):
    with pytest.raises(KzooError, match="of 2 tokens"):
        draw_attention(np.eye(3), ["a", "b"], tmp_path / "head.png")
    with pytest.raises(KzooError, match=r"does not end in \.png"):
        draw_words(explained(["a"], [1.0]), tmp_path / "words.jpg")
