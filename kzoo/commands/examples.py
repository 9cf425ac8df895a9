"""The examples that a command scores bundles on, and how they are asked for."""

from __future__ import annotations

import pathlib
from dataclasses import dataclass
from typing import Annotated, Any

import typer
from pydantic import ValidationError

from kzoo.commands.terminal import errors
from kzoo.data import Examples, read_image_folder, read_pairs
from kzoo.errors import KzooError

Pairs = Annotated[
    tuple[pathlib.Path, pathlib.Path] | None,
    typer.Option("--data", metavar="SOURCE TARGET", help="Texts and their translations, line by line."),
]
Table = Annotated[
    pathlib.Path | None,
    typer.Option(help="Texts and labels, a .csv, .tsv, .jsonl or .parquet, for what is no translator."),
]
TextColumns = Annotated[
    list[str] | None,
    typer.Option(
        help="The table's column of texts, found unless given; a number counts from 0; may be repeated."
    ),
]
PairColumns = Annotated[
    list[str] | None, typer.Option(help="The column of second texts, where there are two.")
]
LabelColumn = Annotated[str | None, typer.Option(help="The table's column of labels, found unless given.")]
Classes = Annotated[
    pathlib.Path | None,
    typer.Option(help="A file of the classes' names, one a line, where the table has their numbers."),
]
Separator = Annotated[
    str | None, typer.Option(help="What stands between several labels; a comma unless given.")
]
Scale = Annotated[
    tuple[float, float] | None,
    typer.Option(metavar="LOW HIGH", help="The lowest and highest number, which become 0 and 1."),
]
Encoding = Annotated[str, typer.Option(help="What the table's characters are written in.")]
Images = Annotated[pathlib.Path | None, typer.Option(help="A folder of images, in a folder for each class.")]
RecipeFile = Annotated[
    pathlib.Path | None,
    typer.Option("--recipe", help="Take the test data of a recipe, in place of the others."),
]
Language = Annotated[
    str | None,
    typer.Option(
        help="What translations are in, such as de; what the target file's name ends in unless given."
    ),
]

# What the tables of a bundle's task are called in recipes.
_TABLE_TASKS = {
    "classification": "classification",
    "multilabel": "multilabel",
    "tokens": "tokens",
    "regression": "regression",
    "embedding": "similarity",
}


@dataclass(frozen=True)
class Given:
    """What the command line says of the examples; the fields are those of the options."""

    data: tuple[pathlib.Path, pathlib.Path] | None = None
    table: pathlib.Path | None = None
    text: list[str] | None = None
    text_pair: list[str] | None = None
    label: str | None = None
    classes: pathlib.Path | None = None
    separator: str | None = None
    scale: tuple[float, float] | None = None
    encoding: str = "utf-8"
    images: pathlib.Path | None = None
    recipe: pathlib.Path | None = None
    language: str | None = None


def read_examples(pipeline: Any, given: Given) -> tuple[Examples, str | None]:
    """Return the examples that a bundle is to be scored on, and the language of its translations.

    Raises:
        KzooError: they are not what the bundle's task takes, or cannot be read.
    """
    from kzoo.recipes.evaluation.answers import ANSWERS

    task = pipeline.task
    if task not in ANSWERS:
        raise KzooError(
            f"'{pipeline.name}' is for the task '{task}'; there are scores for {', '.join(ANSWERS)}."
        )
    option = {
        "seq2seq": "--data SOURCE TARGET, or --recipe RECIPE",
        "image_classification": "--images FOLDER, or --recipe RECIPE",
        "causal_lm": "--recipe RECIPE",
        "mlm": "--recipe RECIPE",
    }.get(task, "--table FILE, or --recipe RECIPE")
    found = {"--data": given.data, "--table": given.table, "--images": given.images, "--recipe": given.recipe}
    names = [name for name, value in found.items() if value is not None]
    if names not in ([option.split()[0]], ["--recipe"]):
        raise KzooError(f"'{pipeline.name}' is for the task '{task}': give it {option}.")
    if given.language is not None and task != "seq2seq":
        raise KzooError("--language is for translations.")
    if given.recipe is not None:
        return _of_recipe(given.recipe, task)
    if given.data is not None:
        from kzoo.recipes.evaluation.moses import language_of

        return read_pairs(*given.data), given.language or language_of(given.data[1])
    if given.images is not None:
        return read_image_folder(given.images, known_labels=set(pipeline.manifest.labels or []) or None), None
    return _of_table(given, task), None


def _of_recipe(path: pathlib.Path, task: str) -> tuple[Examples, str | None]:
    from kzoo.recipes import load_recipe
    from kzoo.recipes.evaluation.examining import test_data

    recipe = load_recipe(path)
    if recipe.task != task:
        raise KzooError(f"{path} is a recipe for the task '{recipe.task}', and the bundle for '{task}'.")
    return test_data(recipe, path.parent)


def _of_table(given: Given, task: str) -> Examples:
    """Read a table as a recipe's training file is read."""
    from kzoo.recipes.data.tables import read_tables
    from kzoo.recipes.schema.data_kinds import TableData

    fields = {
        "task": _TABLE_TASKS[task],
        "train": str(given.table),
        "text": _columns(given.text),
        "text_pair": _columns(given.text_pair),
        "label": _column(given.label) if given.label is not None else None,
        "classes": str(given.classes) if given.classes is not None else None,
        "separator": given.separator,
        "scale": list(given.scale) if given.scale is not None else None,
        "encoding": given.encoding,
    }
    try:
        data = TableData.model_validate(fields)
    except ValidationError as error:
        problems = "; ".join(details["msg"].removeprefix("Value error, ") for details in error.errors())
        raise KzooError(f"{given.table}: {problems}.") from None
    tables = read_tables(data, pathlib.Path)
    for note in tables.notes:
        errors.print(note, markup=False, highlight=False, soft_wrap=True)
    return tables.parts["train"]


def _columns(names: list[str] | None) -> list[str | int] | None:
    return [_column(name) for name in names] if names else None


def _column(name: str) -> str | int:
    return int(name) if name.isdecimal() else name
