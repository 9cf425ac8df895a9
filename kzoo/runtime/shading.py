"""Pictures of explanations: words and pixels in the colours of their weights, and the attention of a head."""

from __future__ import annotations

import io
import pathlib
from collections.abc import Sequence
from typing import Any

import numpy as np

from kzoo.errors import KzooError, MissingDependencyError
from kzoo.replace import replacing
from kzoo.runtime.explanation import Explanation
from kzoo.runtime.image_explanation import ImageExplanation, enlarge

# Blue for, orange against: told apart by eyes of any kind.
_FOR, _AGAINST = (0.13, 0.40, 0.67), (0.85, 0.37, 0.01)
_INCHES = 8.0
_SIZE = 13
# Small images are shown at least so many pixels high and wide.
_SHOWN = 224


def draw_words(explanation: Explanation, path: str | pathlib.Path) -> None:
    """Draw a text, its words the stronger coloured the more they weigh: blue for the label, orange against it.

    Args:
        explanation: what to draw.
        path: the picture to write, ending in .png; there must be a folder for it.

    Raises:
        KzooError: the path does not end in .png.
        MissingDependencyError: matplotlib is not installed.
    """
    figure = _figure((_INCHES, 1.0))
    renderer = figure.canvas.get_renderer()
    width = _INCHES * figure.dpi
    strongest = float(np.abs(explanation.weights).max()) or 1.0
    line, left, margin = 0, 0.0, 0.03 * width
    drawn = []
    part = 0
    for word, weight in zip(explanation.words, explanation.weights.tolist(), strict=True):
        text = _plain(word.text)
        share = abs(weight) / strongest
        label = figure.text(
            0,
            0,
            text,
            fontsize=_SIZE,
            va="center",
            color="white" if share > 0.6 else "black",
            bbox={"facecolor": (*(_FOR if weight >= 0 else _AGAINST), share), "edgecolor": "none", "pad": 2},
        )
        size = label.get_window_extent(renderer).width
        if word.part != part or (left and left + size > width - 2 * margin):
            line, left, part = line + 1, 0.0, word.part
        drawn.append((label, line, left))
        left += size + 0.6 * _SIZE
    lines = line + 2
    height = 0.34 * lines
    figure.set_size_inches(_INCHES, height)
    for label, line, left in drawn:
        label.set_position(((margin + left) / width, 1 - (line + 1.5) / lines))
    title = f"{explanation.label} {explanation.score:.3g}, by {explanation.method.replace('_', ' ')}"
    figure.text(margin / width, 1 - 0.5 / lines, _plain(title), fontsize=10, va="center", color="dimgray")
    _write(figure, path)


def draw_image(explanation: ImageExplanation, path: str | pathlib.Path) -> None:
    """Draw an image, and beside it the same in grey, blue where it speaks for the label and orange against it.

    Args:
        explanation: what to draw.
        path: the picture to write, ending in .png; there must be a folder for it.

    Raises:
        KzooError: the path does not end in .png.
        MissingDependencyError: matplotlib is not installed.
    """
    figure = _figure((_INCHES, _INCHES / 2 + 0.3))
    plain, shaded = figure.subplots(1, 2)
    image = explanation.image
    plain.imshow(np.repeat(image, 3, axis=2) if image.shape[2] == 1 else image)
    shaded.imshow(shade(image, explanation.weights))
    for axes in (plain, shaded):
        axes.set_axis_off()
    title = f"{explanation.label} {explanation.score:.3g}, by {explanation.method.replace('_', ' ')}"
    figure.suptitle(_plain(title), fontsize=10, color="dimgray")
    figure.tight_layout()
    _write(figure, path)


def shade(image: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Return an image in grey, the stronger coloured the more its parts weigh: blue above 0, orange below.

    Args:
        image: uint8 (height, width, 1 or 3).
        weights: (rows, columns), of the image's pixels or of larger parts in their places.

    Returns:
        uint8 (height, width, 3); a small image has become larger by a whole factor.
    """
    factor = -(-_SHOWN // min(image.shape[:2]))
    height, width = (side * factor for side in image.shape[:2])
    grey = enlarge(image.mean(axis=2), height, width)[..., None]
    large = enlarge(np.asarray(weights, np.float64), height, width)[..., None]
    share = np.abs(large) / (float(np.abs(large).max()) or 1.0)
    colours = 255 * np.where(large < 0, np.asarray(_AGAINST), np.asarray(_FOR))
    # Paler than what lies on it, so that colours are seen on dark images too.
    return np.rint((1 - share) * (0.5 * grey + 90) + share * colours).astype(np.uint8)


def draw_attention(attention: np.ndarray, tokens: Sequence[str], path: str | pathlib.Path) -> None:
    """Draw the heat map of a head: a row for each token, the darker the more it takes of a column's token.

    Args:
        attention: (length, length), such as `attention_maps(model, text)[layer, head]`, or a `rollout`.
        tokens: their texts.
        path: the picture to write, ending in .png; there must be a folder for it.

    Raises:
        KzooError: there are not as many tokens as rows, or the path does not end in .png.
        MissingDependencyError: matplotlib is not installed.
    """
    if attention.shape != (len(tokens), len(tokens)):
        raise KzooError(
            f"The attention has shape {attention.shape}; of {len(tokens)} tokens it has as many rows and columns."
        )
    side = 1.5 + 0.28 * len(tokens)
    figure = _figure((side, side))
    axes = figure.add_subplot()
    axes.imshow(attention, cmap="Blues", vmin=0)
    places, texts = range(len(tokens)), [_plain(token) for token in tokens]
    axes.set_xticks(places, texts, rotation=90)
    axes.set_yticks(places, texts)
    axes.set(xlabel="takes from", ylabel="token")
    figure.tight_layout()
    _write(figure, path)


def _figure(inches: tuple[float, float]) -> Any:
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError as error:
        raise MissingDependencyError("Pictures need matplotlib: pip install 'kzoo[train]'.") from error
    figure = Figure(figsize=inches, dpi=150)
    FigureCanvasAgg(figure)
    return figure


def _plain(text: str) -> str:
    """Return a text that matplotlib takes for no formula, in one line."""
    return " ".join(text.split()).replace("$", r"\$")


def _write(figure: Any, path: str | pathlib.Path) -> None:
    file = pathlib.Path(path)
    if file.suffix != ".png":
        raise KzooError(f"'{file}' does not end in .png, which is what pictures are.")
    picture = io.BytesIO()
    figure.savefig(picture, format="png")
    with replacing(file, is_file=True) as folder:
        (folder / file.name).write_bytes(picture.getvalue())
