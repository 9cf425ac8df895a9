"""`kzoo evaluate` and `kzoo compare`: how good bundles are, and how sure that is."""

from __future__ import annotations

import dataclasses
import pathlib
from collections.abc import Mapping
from typing import Annotated, Any

import typer

from kzoo.commands.examples import (
    Classes,
    Encoding,
    Given,
    Images,
    LabelColumn,
    Language,
    PairColumns,
    Pairs,
    RecipeFile,
    Scale,
    Separator,
    Table,
    TextColumns,
    read_examples,
)
from kzoo.commands.prediction import options_of
from kzoo.commands.terminal import AsJson, BundlePath, Device, NumBeams, errors, print_json

BatchSize = Annotated[int, typer.Option(min=1, help="How many inputs run together.")]

# Most classes of the table on the terminal.
_MOST_CLASSES = 40


def evaluate(
    bundle: BundlePath,
    data: Pairs = None,
    table: Table = None,
    text: TextColumns = None,
    text_pair: PairColumns = None,
    label: LabelColumn = None,
    classes: Classes = None,
    separator: Separator = None,
    scale: Scale = None,
    encoding: Encoding = "utf-8",
    images: Images = None,
    recipe: RecipeFile = None,
    language: Language = None,
    num_beams: NumBeams = None,
    batch_size: BatchSize = 32,
    device: Device = "auto",
    as_json: AsJson = False,
) -> None:
    """Score a bundle on translations, labelled or graded texts, or labelled images."""
    import kzoo
    from kzoo.recipes.evaluation.examining import answers
    from kzoo.recipes.evaluation.scores import named_classes
    from kzoo.runtime.tables import draw_table

    pipeline = kzoo.load(bundle, device=device)
    given = Given(
        data, table, text, text_pair, label, classes, separator, scale, encoding, images, recipe, language
    )
    examples, language = read_examples(pipeline, given)
    options = options_of(pipeline, num_beams=num_beams)
    with errors.status("measuring"):
        named = named_classes(list(pipeline.manifest.metrics))
        found = answers(
            pipeline, examples.inputs, language=language, named=named, batch_size=batch_size, **options
        )
        scores, details = found.scores(examples.targets), found.details(examples.targets)
    if as_json:
        about = {"name": pipeline.name, "examples": len(examples), **options}
        print_json({**about, "scores": _plain(scores), **details})
        return
    rows = [
        (name, f"{score.value:.4g}", "" if score.margin is None else f"{score.margin:.2g}")
        for name, score in scores.items()
    ]
    typer.echo(draw_table(("score", pipeline.name, "±"), rows))
    if details.get("classes"):
        typer.echo(f"\n{_draw_classes(details['classes'])}")
    typer.echo(_legend(len(examples), {name: score.signature for name, score in scores.items()}))


def compare(
    first: Annotated[pathlib.Path, typer.Argument(help="Folder of a bundle.")],
    second: Annotated[pathlib.Path, typer.Argument(help="Folder of another, for the same task.")],
    data: Pairs = None,
    table: Table = None,
    text: TextColumns = None,
    text_pair: PairColumns = None,
    label: LabelColumn = None,
    classes: Classes = None,
    separator: Separator = None,
    scale: Scale = None,
    encoding: Encoding = "utf-8",
    images: Images = None,
    recipe: RecipeFile = None,
    language: Language = None,
    num_beams: NumBeams = None,
    batch_size: BatchSize = 32,
    device: Device = "auto",
    as_json: AsJson = False,
) -> None:
    """Say which of two bundles is better, and whether that may be chance: paired bootstrap resampling."""
    import kzoo
    from kzoo.recipes.evaluation.examining import check_same_task, compare_bundles
    from kzoo.recipes.evaluation.scores import named_classes

    one, other = (kzoo.load(path, device=device) for path in (first, second))
    check_same_task(one, other)
    given = Given(
        data, table, text, text_pair, label, classes, separator, scale, encoding, images, recipe, language
    )
    examples, language = read_examples(one, given)
    options = options_of(one, num_beams=num_beams)
    named = dict.fromkeys(named_classes([*one.manifest.metrics, *other.manifest.metrics]))
    with errors.status("measuring"):
        pairs = compare_bundles(
            one, other, examples, language=language, named=[*named], batch_size=batch_size, **options
        )
    if as_json:
        about = {"first": str(first), "second": str(second), "examples": len(examples), **options}
        print_json({**about, "scores": _plain(pairs)})
        return
    typer.echo(_draw_pairs(str(first), str(second), pairs))
    typer.echo(_legend(len(examples), {name: pair.first.signature for name, pair in pairs.items()}))
    typer.echo("p: how probable a difference as large would be between bundles that are equally good.")


def _draw_pairs(first: str, second: str, pairs: Mapping[str, Any]) -> str:
    from kzoo.runtime.tables import draw_table

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
    return draw_table(("score", first, second, "difference", "p"), rows)


def _draw_classes(table: Mapping[str, Mapping[str, float]]) -> str:
    """Return the table of the classes, of many those with the lowest F1."""
    from kzoo.runtime.tables import draw_table

    names = list(table)
    if len(names) > _MOST_CLASSES:
        names = sorted(names, key=lambda name: table[name]["f1"])[:_MOST_CLASSES]
    columns = list(dict.fromkeys(column for name in names for column in table[name]))
    rows = [(name, *(_figure(table[name].get(column)) for column in columns)) for name in names]
    heads = ["class", *(column.replace("_", " ") for column in columns)]
    more = (
        f"\n\nthe {len(names)} of {len(table):,} classes with the lowest F1"
        if len(names) < len(table)
        else ""
    )
    return draw_table(heads, rows) + more


def _figure(value: float | None) -> str:
    if value is None:
        return ""
    return f"{value:,}" if isinstance(value, int) else f"{value:.3f}"


def _legend(examples: int, signatures: dict[str, str]) -> str:
    """Return what a reader needs to know of the table above."""
    lines = [f"\n{examples:,} examples; ± is half a 95% confidence interval."]
    return "\n".join(lines + [f"{name}: {signature}" for name, signature in signatures.items() if signature])


def _plain(scores: Mapping[str, Any]) -> dict[str, Any]:
    return {name: dataclasses.asdict(score) for name, score in scores.items()}
