"""`kzoo predict`: a bundle's results for texts and images, on the terminal or from file to file."""

from __future__ import annotations

import inspect
import json
import pathlib
import re
from typing import Annotated, Any

import typer

from kzoo.commands.terminal import AsJson, BundlePath, Device, NumBeams, TopK, errors, print_json
from kzoo.data import read_text
from kzoo.errors import KzooError
from kzoo.replace import replacing
from kzoo.runtime.results import plain


def predict(
    bundle: BundlePath,
    inputs: Annotated[list[str] | None, typer.Argument(help="Texts, or paths of images.")] = None,
    file: Annotated[pathlib.Path | None, typer.Option(help="Take inputs from a file, one a line.")] = None,
    output: Annotated[
        pathlib.Path | None,
        typer.Option(help="Write results to a file, one for each line of --file, empty where that is empty."),
    ] = None,
    top_k: TopK = None,
    num_beams: NumBeams = None,
    device: Device = "auto",
    as_json: AsJson = False,
) -> None:
    """Run a bundle on texts or images."""
    import kzoo

    if output is not None and (file is None or inputs):
        raise KzooError("--output is for the lines of a file: give --file, and no other inputs.")
    lines = _lines(file) if file is not None else []
    items = [*(inputs or []), *(line for line, _ in lines if line.strip())]
    if not items and output is None:
        raise KzooError("There is nothing to predict: give texts, paths of images, or --file.")
    pipeline = kzoo.load(bundle, device=device)
    with errors.status("predicting"):
        results = (
            plain(pipeline(items, **options_of(pipeline, top_k=top_k, num_beams=num_beams))) if items else []
        )
    if output is not None:
        _write(output, lines, results, as_json)
    elif as_json:
        print_json(results)
    else:
        for item, result in zip(items, results, strict=True):
            typer.echo(f"{item}\t{_one_line(result)}")


def options_of(pipeline: Any, **given: Any) -> dict[str, Any]:
    """Return those options that were given.

    Raises:
        KzooError: the bundle's task has no such option.
    """
    options = {name: value for name, value in given.items() if value is not None}
    for name in options.keys() - inspect.signature(type(pipeline).__call__).parameters.keys():
        raise KzooError(f"--{name.replace('_', '-')} does not apply to the task '{pipeline.task}'.")
    return options


def _lines(path: pathlib.Path) -> list[tuple[str, str]]:
    """Return a file's lines, each with what it ends in, which is nothing for a last line without."""
    # Not splitlines, which cuts at characters that may stand inside a text, such as U+2028.
    content = read_text(path)
    return [(line, end) for line, end in re.findall(r"([^\n]*?)(\r?\n|\Z)", content) if line or end]


def _write(path: pathlib.Path, lines: list[tuple[str, str]], results: list[Any], as_json: bool) -> None:
    """Write a line for each line, ending as it did."""
    remaining = iter(results)
    written = []
    for line, end in lines:
        result = next(remaining) if line.strip() else None
        if as_json:
            text = json.dumps(result, default=str, ensure_ascii=False)
        else:
            text = "" if result is None else _shown(result)
        written.append(text + end)
    with replacing(path, is_file=True) as folder:
        (folder / path.name).write_bytes("".join(written).encode())


def _shown(result: Any) -> str:
    """Return a result as a line of a file: of a translation the text alone."""
    text = (
        result["translation"] if isinstance(result, dict) and "translation" in result else _one_line(result)
    )
    return " ".join(text.splitlines())


def _one_line(result: Any) -> str:
    if isinstance(result, dict):
        return "\t".join(
            f"{value:.4f}" if isinstance(value, float) else str(value) for value in result.values()
        )
    if isinstance(result, list) and result and isinstance(result[0], dict):
        return "  ".join(_one_line(part).replace("\t", " ") for part in result)
    return json.dumps(result)
