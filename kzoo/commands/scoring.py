"""`kzoo evaluate` and `kzoo compare`: how good bundles are, and how sure that is."""

from __future__ import annotations

import dataclasses
import pathlib
from typing import Annotated, Any

import typer

from kzoo.commands.prediction import options_of
from kzoo.commands.terminal import AsJson, BundlePath, Device, NumBeams, errors, print_json
from kzoo.data import Examples, read_image_folder, read_pairs, read_table
from kzoo.errors import KzooError

Pairs = Annotated[
    tuple[pathlib.Path, pathlib.Path] | None,
    typer.Option("--data", metavar="SOURCE TARGET", help="Texts and their translations, line by line."),
]
Table = Annotated[
    pathlib.Path | None, typer.Option(help="Labelled texts, a .csv, .tsv or .jsonl, for a bundle of classes.")
]
TextColumns = Annotated[
    list[str] | None,
    typer.Option(help="The table's column of texts; a number counts from 0; may be repeated."),
]
LabelColumn = Annotated[str | None, typer.Option(help="The table's column of labels.")]
Images = Annotated[pathlib.Path | None, typer.Option(help="A folder of images, in a folder for each class.")]
Language = Annotated[
    str | None,
    typer.Option(
        help="What translations are in, such as de; what the target file's name ends in unless given."
    ),
]
BatchSize = Annotated[int, typer.Option(min=1, help="How many inputs run together.")]


def evaluate(
    bundle: BundlePath,
    data: Pairs = None,
    table: Table = None,
    text: TextColumns = None,
    label: LabelColumn = None,
    images: Images = None,
    language: Language = None,
    num_beams: NumBeams = None,
    batch_size: BatchSize = 32,
    device: Device = "auto",
    as_json: AsJson = False,
) -> None:
    """Score a bundle on translations, labelled texts or labelled images."""
    import kzoo
    from kzoo.recipes.evaluation import answers, measure
    from kzoo.runtime.tables import draw_table

    pipeline = kzoo.load(bundle, device=device)
    examples, language = _examples(pipeline, data, table, text, label, images, language)
    options = options_of(pipeline, num_beams=num_beams)
    with errors.status("measuring"):
        found = answers(pipeline, examples.inputs, batch_size=batch_size, **options)
        scores = measure(pipeline.task, found, examples.targets, language=language)
    if as_json:
        _print({"name": pipeline.name, "examples": len(examples), **options}, scores)
        return
    rows = [(name, f"{score.value:.4g}", f"{score.margin:.2g}") for name, score in scores.items()]
    typer.echo(draw_table(("score", pipeline.name, "±"), rows))
    typer.echo(_legend(len(examples), {name: score.signature for name, score in scores.items()}))


def compare(
    first: Annotated[pathlib.Path, typer.Argument(help="Folder of a bundle.")],
    second: Annotated[pathlib.Path, typer.Argument(help="Folder of another, for the same task.")],
    data: Pairs = None,
    table: Table = None,
    text: TextColumns = None,
    label: LabelColumn = None,
    images: Images = None,
    language: Language = None,
    num_beams: NumBeams = None,
    batch_size: BatchSize = 32,
    device: Device = "auto",
    as_json: AsJson = False,
) -> None:
    """Say which of two bundles is better, and whether that may be chance: paired bootstrap resampling."""
    import kzoo
    from kzoo.recipes.evaluation import check_same_task, compare_bundles
    from kzoo.runtime.tables import draw_table

    one, other = (kzoo.load(path, device=device) for path in (first, second))
    check_same_task(one, other)
    examples, language = _examples(one, data, table, text, label, images, language)
    options = options_of(one, num_beams=num_beams)
    with errors.status("measuring"):
        pairs = compare_bundles(one, other, examples, language=language, batch_size=batch_size, **options)
    if as_json:
        _print({"first": str(first), "second": str(second), "examples": len(examples), **options}, pairs)
        return
    rows = [
        (
            name,
            str(pair.first),
            str(pair.second),
            f"{pair.second.value - pair.first.value:+.3g}",
            f"{pair.p_value:.3f}",
        )
        for name, pair in pairs.items()
    ]
    typer.echo(draw_table(("score", str(first), str(second), "difference", "p"), rows))
    typer.echo(_legend(len(examples), {name: pair.first.signature for name, pair in pairs.items()}))
    typer.echo("p: how probable a difference as large would be between bundles that are equally good.")


def _examples(
    pipeline: Any,
    data: tuple[pathlib.Path, pathlib.Path] | None,
    table: pathlib.Path | None,
    text: list[str] | None,
    label: str | None,
    images: pathlib.Path | None,
    language: str | None,
) -> tuple[Examples, str | None]:
    """Return the examples that a bundle is to be scored on, and the language of its translations."""
    wanted = {
        "seq2seq": ("--data SOURCE TARGET", data),
        "classification": ("--table FILE --text COLUMN --label COLUMN", table and text and label),
        "image_classification": ("--images FOLDER", images),
    }
    if pipeline.task not in wanted:
        raise KzooError(
            f"'{pipeline.name}' is for the task '{pipeline.task}'; there are scores for {', '.join(wanted)}."
        )
    usage, given = wanted[pipeline.task]
    others = [name for name, value in (("--data", data), ("--table", table), ("--images", images)) if value]
    if not given or others != [usage.split()[0]]:
        raise KzooError(f"'{pipeline.name}' is for the task '{pipeline.task}': give it {usage}.")
    labels = set(pipeline.manifest.labels or []) or None
    if data:
        from kzoo.recipes.moses import language_of

        return read_pairs(*data), language or language_of(data[1])
    if language is not None:
        raise KzooError("--language is for translations.")
    if images:
        return read_image_folder(images, known_labels=labels), None
    columns = [_column(name) for name in text or []]
    return read_table(table or "", text=columns, label=_column(label or ""), known_labels=labels), None


def _column(name: str) -> str | int:
    return int(name) if name.isdecimal() else name


def _legend(examples: int, signatures: dict[str, str]) -> str:
    """Return what a reader needs to know of the table above."""
    lines = [f"\n{examples:,} examples; ± is half a 95% confidence interval."]
    return "\n".join(lines + [f"{name}: {signature}" for name, signature in signatures.items() if signature])


def _print(about: dict[str, Any], scores: dict[str, Any]) -> None:
    print_json({**about, "scores": {name: dataclasses.asdict(score) for name, score in scores.items()}})
