"""The learning curve's picture, and the card that goes onto the shelf with a bundle."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from kzoo.recipes.evaluation.pictures import save
from kzoo.recipes.evaluation.showing import as_tables, cell, hardest_table, markdown_table
from kzoo.recipes.schema.config import Recipe
from kzoo.recipes.schema.sections import TrainingSection

_PERCENT, _HUNDRED = "{:.2%}", "{:.1f}"
_SHOWN = {
    **dict.fromkeys(("accuracy", "exact_match", "token_accuracy", "masked_accuracy"), _PERCENT),
    **dict.fromkeys(("bleu", "chrf", "ter", "bleu_lowercased_tokenized"), _HUNDRED),
}
_COLUMNS = ("precision", "recall", "f1", "support", "threshold")
_MOST_CLASSES = 30
_USE = {
    "classification": 'model(["A text to sort."])  # [{"label": ..., "score": ...}]',
    "multilabel": 'model(["A text to sort."])  # [[{"label": ..., "score": ...}, ...]]',
    "tokens": 'model(["A text to read."])  # [[{"label": ..., "text": ..., "start": ..., ...}, ...]]',
    "regression": 'model(["A text to grade."])  # [{"score": ...}]',
    "embedding": 'one, other = model(["A text.", "Another one."])  # how alike they are: one @ other',
    "image_classification": 'model(["picture.png"])  # [{"label": ..., "score": ...}]',
    "causal_lm": 'model("A text to go on with.", temperature=0.8)  # {"text": ...}',
    "mlm": 'model("A text with a [MASK].")  # [{"token": ..., "score": ..., "text": ...}, ...]',
    "seq2seq": 'model(["A text to translate."])  # [{"translation": ..., "score": ...}]',
}
_CARD = """\
# {name}
{description}
| {scored} | |
| --- | --- |
{scores}

{measured}

```python
import kzoo

model = kzoo.load("bundle")
{use}
```

## How it was made

    {command}

- Model: `{model}`{knobs}; {parameters:,} parameters.
- Training: {train:,} {unit}, {length}, learning rate {rate}, seed {seed};
  {seconds:,.0f} s.{cleaned}{cut}
- Exported: {chosen}; in {dtype}, {megabytes:,.1f} MB with tokenizer and checks.
- Made on {date}, on {hardware}, with {versions}.

| data | sha256 |
| --- | --- |
{data}
{licence}{hardest}{translations}
![Learning curve](learning-curve.png)
"""


def draw_curve(rows: Sequence[Mapping[str, float]], best: int, path: Path) -> None:
    """Draw loss and metrics by epoch, or by update.

    Args:
        rows: what was measured at each checkpoint.
        best: the checkpoint that was chosen, from 1.
        path: the PNG file to write.
    """
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    held = (key.removeprefix("val_") for key in rows[0] if key.startswith("val_"))
    names = dict.fromkeys(("loss", "accuracy", "token_accuracy", "bleu", *held))
    measured = [name for name in names if name in rows[0] or f"val_{name}" in rows[0]]
    figure = Figure(figsize=(4 * len(measured), 3), layout="constrained")
    unit = "step" if "step" in rows[0] else "epoch"
    places = [row[unit] for row in rows]
    chosen = places[best - 1]
    for place, name in enumerate(measured, start=1):
        axes = figure.add_subplot(1, len(measured), place)
        for key, label, color in ((name, "training", "C0"), (f"val_{name}", "validation", "C1")):
            if key in rows[0]:
                marker = "." if len(rows) < 20 else ""
                axes.plot(places, [row[key] for row in rows], label=label, color=color, marker=marker)
        axes.axvline(chosen, color="0.7", linestyle=":", label=f"{unit} {chosen:,}, exported")
        axes.set(xlabel=unit, title=name.replace("_", " "))
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.legend(frameon=False, fontsize="small")
    save(figure, path)


def card(
    recipe: Recipe,
    metrics: Mapping[str, Any],
    checksums: Mapping[str, str],
    environment: Mapping[str, Any],
    size_bytes: int,
) -> str:
    """Return the card of a trained model, in Markdown.

    Args:
        recipe: what it was trained by.
        metrics: what `metrics.json` holds.
        checksums: sha256 of the data, by name.
        environment: what `run.json` holds of command, versions and hardware.
        size_bytes: of all of the bundle's files.
    """
    names = [recipe.metric, *(name for name in metrics["scores"] if name != recipe.metric)]
    examples, versions = metrics["examples"], environment["versions"]
    return _CARD.format(
        name=recipe.name,
        description=f"\n{recipe.description.strip()}\n" if recipe.description else "",
        scores="\n".join(
            f"| {name if name.isidentifier() else cell(name)} | {_shown(name, metrics)} |" for name in names
        ),
        scored=f"score on {examples['test']:,} test {recipe.unit}"
        if examples["test"]
        else "mean score of the folds",
        measured=_joined(
            _measured(metrics),
            _mirrored(recipe.metric, metrics),
            "\n".join(f"    {name} {text}" for name, text in metrics["signatures"].items()),
            *(_repeated(metrics[kind], kind) for kind in ("seeds", "folds") if kind in metrics),
            *(f"![{caption}]({name})" for name, caption in metrics.get("pictures", {}).items()),
            _classes(metrics["classes"]) if metrics.get("classes") else "",
            metrics.get("distillation", ""),
        ),
        use=_USE[recipe.task],
        command=environment["command"],
        model=recipe.model.title,
        knobs="".join(f", {knob} {value}" for knob, value in recipe.model.knobs.items()),
        parameters=metrics["parameters"],
        unit=recipe.unit,
        length=_length(recipe),
        rate=recipe.training.learning_rate or "by the model's width",
        seed=recipe.training.seed,
        seconds=metrics["seconds"],
        cleaned=f"\n- Data: {metrics['cleaned']}." if metrics.get("cleaned") else "",
        cut=_cut(metrics["cut"]) if metrics.get("cut") else "",
        chosen=_chosen(recipe.training, metrics),
        dtype=recipe.export.dtype,
        megabytes=size_bytes / 1e6,
        hardest=hardest_table(metrics.get("hardest", [])) if recipe.evaluation.show_texts else "",
        translations=as_tables(metrics["shown"])
        if "shown" in metrics and recipe.evaluation.show_texts
        else "",
        date=environment["started"][:10],
        hardware=environment["hardware"],
        versions=", ".join(f"{name} {version}" for name, version in versions.items()),
        data="\n".join(f"| {name} | `{digest}` |" for name, digest in checksums.items()),
        licence=f"\nLicence of the data: {recipe.data.licence}\n" if recipe.data.licence else "",
        train=examples["train"],
    )


def _length(recipe: Recipe) -> str:
    training, before = recipe.training, recipe.pretraining
    if training.max_steps is None:
        painted = f" after {before.epochs} without labels" if before is not None else ""
        return f"{training.epochs} epochs{painted} in batches of {training.batch_size}"
    batches = f"{training.accumulate} batches of " if training.accumulate > 1 else ""
    side = " a side" if recipe.task == "seq2seq" else ""
    return f"{training.max_steps:,} updates, each of {batches}at most {training.batch_tokens:,} tokens{side}"


def _chosen(training: TrainingSection, metrics: Mapping[str, Any]) -> str:
    place = training.place(metrics["epoch"])
    if training.average > 1:
        return f"the mean of the last {min(training.average, metrics['epoch'])} checkpoints, up to {place}"
    return (
        f"{place}, {'the best on the validation data' if metrics['examples']['validation'] else 'the last'}"
    )


def _measured(metrics: Mapping[str, Any]) -> str:
    if not metrics["examples"]["test"]:
        return "The bundle's model learnt from all folds, so that nothing is left to measure it on."
    beams = f", with {metrics['num_beams']} beams" if metrics["num_beams"] else ""
    return (
        f"Measured on the exported bundle, through `kzoo.runtime`{beams}; ± is half a 95% confidence interval, of "
        "the scores that have one."
    )


def _mirrored(metric: str, metrics: Mapping[str, Any]) -> str:
    if "mirrored" not in metrics:
        return ""
    score = f"{metric} {form_score(metric, metrics['mirrored'])}"
    return f"By the mean of the answers to each image and to its mirror image, which takes twice the time: {score}."


def _repeated(summary: Mapping[str, Any], kind: str) -> str:
    """Return what several trainings scored, in Markdown."""
    names = list(summary["mean"])
    rows = [
        (run, *(form_score(name, scores[name]) for name in names)) for run, scores in summary["runs"].items()
    ]
    both = ((summary["mean"][name], summary["spread"][name]) for name in names)
    means = [
        f"{form_score(name, mean)} ± {form_score(name, spread)}"
        for name, (mean, spread) in zip(names, both, strict=True)
    ]
    table = markdown_table(("training", *names), [*rows, ("mean ± standard deviation", *means)], len(names))
    note = {
        "seeds": f"On the test examples, before the export; exported is {summary.get('exported')}, the best on the "
        "validation data.",
        "folds": "Each on the fold that it did not learn from, before the export.",
    }[kind]
    return _joined(f"## Several {kind}", note, table)


def _joined(*sections: str) -> str:
    """Return what there is, with a blank line between."""
    return "\n\n".join(section.strip("\n") for section in sections if section)


def _cut(counts: Mapping[str, int]) -> str:
    listed = ", ".join(f"{count:,} in the {part} data" for part, count in counts.items())
    return f"\n- Longer than the model takes, and cut: {listed}."


def form_score(name: str, value: float) -> str:
    """Return a score as the card shows it.

    Example:
        >>> form_score("accuracy", 0.912), form_score("bleu", 31.23), form_score("f1:spam", 0.95)
        ('91.20%', '31.2', '0.9500')
    """
    return _SHOWN.get(name, "{:.4f}").format(value)


def _shown(name: str, metrics: Mapping[str, Any]) -> str:
    margin = metrics["margins"].get(name)
    return form_score(name, metrics["scores"][name]) + (
        f" ± {form_score(name, margin)}" if margin is not None else ""
    )


def _classes(table: Mapping[str, Mapping[str, float]]) -> str:
    """Return the table of the classes, of many the worst; the columns are those that they have."""
    columns = [name for name in _COLUMNS if name in next(iter(table.values()))]
    shown = list(table)
    if len(shown) > _MOST_CLASSES:
        shown = sorted(shown, key=lambda name: table[name]["f1"])[:_MOST_CLASSES]
    rows = [
        (name, *(f"{table[name][column]:{',' if column == 'support' else '.3f'}}" for column in columns))
        for name in shown
    ]
    some = len(shown) < len(table)
    note = f"The {len(shown)} of {len(table):,} classes with the lowest F1." if some else ""
    return _joined(note, markdown_table(("class", *columns), rows, numbers=len(columns)))
