"""The learning curve's picture, and the card that goes onto the shelf with a bundle."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from kzoo.recipes.config import Recipe
from kzoo.recipes.directory import write

_SHOWN = {"accuracy": "{:.2%}", "macro_f1": "{:.4f}"}
_USE = {
    "classification": 'model(["A text to sort."])  # [{"label": ..., "score": ...}]',
    "image_classification": 'model(["picture.png"])  # [{"label": ..., "score": ...}]',
    "seq2seq": 'model(["A text to translate."])  # [{"translation": ..., "score": ...}]',
}
_CARD = """\
# {name}
{description}
| score on {test:,} test examples | |
| --- | --- |
{scores}

Measured on the exported bundle, through `kzoo.runtime`{beams}; ± is half a 95% confidence interval.
{signatures}

```python
import kzoo

model = kzoo.load("bundle")
{use}
```

## How it was made

    {command}

- Model: `{model}`{knobs}; {parameters:,} parameters.
- Training: {train:,} examples, {epochs} epochs in batches of {batch_size}, learning rate {rate}, seed {seed};
  {seconds:,.0f} s.
- Exported: epoch {epoch}, {chosen}.
- Made on {date}, on {hardware}, with {versions}.

| data | sha256 |
| --- | --- |
{data}
{licence}
![Learning curve](learning-curve.png)
"""


def draw_curve(rows: Sequence[Mapping[str, float]], best: int, path: Path) -> None:
    """Draw loss and metric by epoch.

    Args:
        rows: what each epoch measured.
        best: the epoch that was chosen, from 1.
        path: the PNG file to write.
    """
    from matplotlib.figure import Figure

    measured = [name for name in ("loss", "accuracy", "token_accuracy") if name in rows[0]]
    figure = Figure(figsize=(4 * len(measured), 3), layout="constrained")
    epochs = [row["epoch"] for row in rows]
    for place, name in enumerate(measured, start=1):
        axes = figure.add_subplot(1, len(measured), place)
        for key, label in ((name, "training"), (f"val_{name}", "validation")):
            if key in rows[0]:
                axes.plot(
                    epochs, [row[key] for row in rows], label=label, marker="." if len(rows) < 20 else ""
                )
        axes.axvline(best, color="0.7", linestyle=":", label=f"epoch {best}, exported")
        axes.set(xlabel="epoch", title=name.replace("_", " "))
        axes.legend(frameon=False, fontsize="small")
    picture = io.BytesIO()
    figure.savefig(picture, format="png", dpi=120)
    write(path, picture.getvalue())


def card(
    recipe: Recipe,
    metrics: Mapping[str, Any],
    checksums: Mapping[str, str],
    environment: Mapping[str, Any],
) -> str:
    """Return the card of a trained model, in Markdown.

    Args:
        recipe: what it was trained by.
        metrics: what `metrics.json` holds.
        checksums: sha256 of the data, by name.
        environment: what `run.json` holds of command, versions and hardware.
    """
    names = [recipe.metric, *(name for name in metrics["scores"] if name != recipe.metric)]
    examples, versions = metrics["examples"], environment["versions"]
    return _CARD.format(
        name=recipe.name,
        description=f"\n{recipe.description.strip()}\n" if recipe.description else "",
        scores="\n".join(f"| {name} | {_shown(name, metrics)} |" for name in names),
        beams=f", with {metrics['num_beams']} beams" if metrics["num_beams"] else "",
        signatures="".join(f"\n    {name} {text}" for name, text in metrics["signatures"].items())
        + ("\n" if metrics["signatures"] else ""),
        use=_USE[recipe.task],
        command=environment["command"],
        model=recipe.model.name,
        knobs="".join(f", {knob} {value}" for knob, value in recipe.model.knobs.items()),
        parameters=metrics["parameters"],
        epochs=recipe.training.epochs,
        batch_size=recipe.training.batch_size,
        rate=recipe.training.learning_rate or "by the model's width",
        seed=recipe.training.seed,
        seconds=metrics["seconds"],
        epoch=metrics["epoch"],
        chosen="the best on the validation data" if examples["validation"] else "the last",
        date=environment["started"][:10],
        hardware=environment["hardware"],
        versions=", ".join(f"{name} {version}" for name, version in versions.items()),
        data="\n".join(f"| {name} | `{digest}` |" for name, digest in checksums.items()),
        licence=f"\nLicence of the data: {recipe.data.licence}\n" if recipe.data.licence else "",
        train=examples["train"],
        test=examples["test"],
    )


def _shown(name: str, metrics: Mapping[str, Any]) -> str:
    form = _SHOWN.get(name, "{:.1f}")
    return f"{form.format(metrics['scores'][name])} ± {form.format(metrics['margins'][name])}"
