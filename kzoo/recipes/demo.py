"""The two-minute demo: handwritten digits from nothing to a verified bundle, a table and a picture."""

from __future__ import annotations

import csv
import io
import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from kzoo import models
from kzoo.data import Examples, digits
from kzoo.recipes import DIGITS, RunResult, run
from kzoo.recipes.comparison import Comparison, Side, compare
from kzoo.recipes.directory import write
from kzoo.vision import preprocess

PICTURE = "demo.png"
_EXAMPLES = 8


@dataclass(frozen=True)
class DemoResult:
    """What the demo made: a run's directory, its bundle, a picture, and a few digits to try on the page."""

    directory: Path
    bundle: Path
    picture: Path
    example_images: list[Path]
    comparison: Comparison
    seconds: float


def run_demo(console: Console) -> DemoResult:
    """Train a small ViT on scikit-learn's digits, export and verify it, compare it with Keras, draw it.

    Args:
        console: where progress and the table go.

    Raises:
        KzooError: something that the run needs is missing, or the export failed.
    """
    started = time.perf_counter()
    result = _train(console)
    checkpoint = next((result.directory / "checkpoints").glob(f"epoch-{_metrics(result)['epoch']:04d}.keras"))
    model = models.load(checkpoint)
    _, test = digits()
    settings = model.image_preprocessing
    assert settings is not None
    pixels = preprocess(list(np.asarray(test.inputs)), settings)
    classes = np.asarray([(model.labels or []).index(target) for target in test.targets])
    console.print("Comparing Keras and ONNX Runtime on the test images")
    comparison = compare(model, checkpoint, result.bundle, pixels, classes)
    picture = result.directory / PICTURE
    _draw(result, model, test, pixels, picture)
    seconds = time.perf_counter() - started
    console.print(_table(comparison, len(test)))
    console.print(f"From start to table {seconds:.0f} s.", highlight=False)
    for name, path in (("Picture", picture), ("Bundle", result.bundle)):
        console.print(f"{name}: {path}", highlight=False, soft_wrap=True)
    return DemoResult(
        result.directory, result.bundle, picture, _save_examples(result, test), comparison, seconds
    )


def _train(console: Console) -> RunResult:
    columns = (
        TextColumn("Training"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("epochs"),
        TextColumn("{task.fields[score]}"),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=console) as progress:
        bar = progress.add_task("training", total=None, score="")

        def on_epoch(epoch: int, epochs: int, logs: dict[str, float]) -> None:
            score = f"accuracy {logs['accuracy']:.3f}"
            progress.update(bar, completed=epoch, total=epochs, score=score)

        return run(DIGITS, progress=progress.console.print, on_epoch=on_epoch)


def _metrics(result: RunResult) -> dict[str, Any]:
    return json.loads((result.directory / "metrics.json").read_text(encoding="utf-8"))


def table_rows(comparison: Comparison, examples: int) -> list[tuple[str, str, str]]:
    """Return what the table says: a name, Keras' figure and ONNX Runtime's, for each line."""

    def row(name: str, shown: Callable[[Side], str]) -> tuple[str, str, str]:
        return name, shown(comparison.keras), shown(comparison.onnx)

    rows = [
        row(f"accuracy on {examples} test images", lambda side: f"{side.accuracy:.2%}"),
        row("size on disk (Keras: with optimizer state)", lambda side: f"{side.size_bytes / 1e3:,.0f} kB"),
    ]
    for batch in comparison.onnx.seconds:
        keras, onnx = (f"{1000 * side.seconds[batch]:.2f} ms" for side in (comparison.keras, comparison.onnx))
        rows.append((f"median latency, batch of {batch}", keras, onnx))
    return [
        *rows,
        ("largest difference of a logit", "", f"{comparison.largest_difference:.1e}"),
        ("equal answers", "", f"{comparison.agreement:.2%}"),
    ]


def _table(comparison: Comparison, examples: int) -> Table:
    table = Table("", "Keras", "ONNX Runtime", title="Handwritten digits", title_justify="left")
    for column in table.columns[1:]:
        column.justify = "right"
    for row in table_rows(comparison, examples):
        table.add_row(*row)
    return table


def _save_examples(result: RunResult, test: Examples) -> list[Path]:
    from PIL import Image

    folder = result.directory / "examples"
    folder.mkdir(exist_ok=True)
    paths = []
    for index, image in enumerate(np.asarray(test.inputs)[:_EXAMPLES, :, :, 0]):
        paths.append(folder / f"digit-{index}.png")
        # Enlarged without smoothing, so that the page shows the eight by eight pixels that the model sees.
        Image.fromarray(image).resize((128, 128), Image.Resampling.NEAREST).save(paths[-1])
    return paths


def _draw(
    result: RunResult, model: models.TransformerModel, test: Examples, pixels: np.ndarray, path: Path
) -> None:
    """Draw the learning curve, a grid of test digits with predictions, and where the last layer looks."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 7.5), layout="constrained")
    rows: Any = figure.subfigures(2, 1, height_ratios=[3, 2])
    left, right = rows[0].subfigures(1, 2, width_ratios=[2, 3])
    _draw_curve(left, result)
    _draw_predictions(right, model, test, pixels)
    _draw_attention(rows[1], model, test, pixels)
    picture = io.BytesIO()
    figure.savefig(picture, format="png", dpi=110)
    write(path, picture.getvalue())


def _draw_curve(figure: Any, result: RunResult) -> None:
    with (result.directory / "metrics.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    epochs = [int(row["epoch"]) for row in rows]
    axes = figure.add_subplot()
    axes.plot(epochs, [float(row["loss"]) for row in rows], label="loss")
    axes.plot(epochs, [float(row["accuracy"]) for row in rows], label="accuracy")
    axes.set(xlabel="epoch", ylim=(0, None), title="Training, on varied images")
    axes.legend(frameon=False)


def _draw_predictions(
    figure: Any, model: models.TransformerModel, test: Examples, pixels: np.ndarray
) -> None:
    logits = model.predict(pixels, verbose=0)["logits"]
    labels = model.labels or []
    predicted = [labels[index] for index in logits.argmax(axis=-1)]
    wrong = [index for index, label in enumerate(predicted) if label != test.targets[index]]
    # What it gets wrong comes first: those are the ones worth looking at.
    shown = [*wrong, *(index for index in range(len(predicted)) if index not in wrong)][:40]
    figure.suptitle(f"Test digits and predictions; red: wrong, {len(wrong)} of {len(predicted)}")
    for axes, index in zip(figure.subplots(5, 8).flat, shown, strict=True):
        axes.imshow(np.asarray(test.inputs)[index, :, :, 0], cmap="gray_r")
        is_wrong = index in wrong
        title = f"{predicted[index]} (is {test.targets[index]})" if is_wrong else predicted[index]
        axes.set_title(title, color="crimson" if is_wrong else "black", fontsize="small", pad=2)
        axes.axis("off")


def _draw_attention(figure: Any, model: models.TransformerModel, test: Examples, pixels: np.ndarray) -> None:
    """Draw the class token's attention to the patches in the last layer, the mean of its heads."""
    count = 10
    attention = model.attention_maps(pixels[:count])[-1].mean(axis=1)[:, 0, 1:]
    side = round(attention.shape[1] ** 0.5)
    figure.suptitle("Where the class token looks, last layer, mean of heads")
    rows = figure.subplots(2, count)
    for column in range(count):
        image = np.asarray(test.inputs)[column, :, :, 0]
        rows[0, column].imshow(image, cmap="gray_r")
        rows[1, column].imshow(image, cmap="gray_r", extent=(0, side, side, 0))
        rows[1, column].imshow(
            attention[column].reshape(side, side), cmap="inferno", alpha=0.6, extent=(0, side, side, 0)
        )
        for axes in rows[:, column]:
            axes.axis("off")
