"""`kzoo explain`: which words of a text a label comes from."""

from __future__ import annotations

import pathlib
from typing import Annotated, Any

import typer

from kzoo.commands.loading import import_models
from kzoo.commands.terminal import AsJson, Device, errors, print_json
from kzoo.errors import KzooError


def explain(
    model: Annotated[pathlib.Path, typer.Argument(help="Folder of a bundle, or a .keras file.")],
    text: Annotated[list[str], typer.Argument(help="A text, or two for a model of pairs.")],
    method: Annotated[
        str | None,
        typer.Option(help="integrated_gradients, rollout or occlusion; the best that there is unless given."),
    ] = None,
    label: Annotated[
        str | None, typer.Option(help="Which label; the most probable one unless given.")
    ] = None,
    output: Annotated[pathlib.Path | None, typer.Option(help="Draw the words into this .png.")] = None,
    device: Device = "auto",
    as_json: AsJson = False,
) -> None:
    """Say which words of a text a label comes from."""
    if len(text) > 2:
        raise KzooError(
            f"There are {len(text)} texts; one is explained at a time, or a pair: put it in quotes."
        )
    if output is not None and output.suffix != ".png":
        raise KzooError(f"--output '{output}' does not end in .png, which is what pictures are.")
    item: Any = text[0] if len(text) == 1 else tuple(text)
    with errors.status("explaining"):
        found = _explain(model, item, method, label, device)
    if output is not None:
        from kzoo.runtime.shading import draw_words

        draw_words(found, output)
    if as_json:
        print_json(found.as_dict())
        return
    from kzoo.runtime.tables import draw_table

    rows = [(word.text, f"{weight:+.4f}") for word, weight in zip(found.words, found.weights, strict=True)]
    typer.echo(f"{found.label} {found.score:.4f}, by {found.method}\n")
    typer.echo(draw_table(("word", "weight"), rows))


def _explain(model: pathlib.Path, text: Any, method: str | None, label: str | None, device: Any) -> Any:
    if model.suffix == ".keras":
        if device != "auto":
            raise KzooError("--device is for bundles; Keras runs where its backend does.")
        loaded = import_models().load(model)
        from kzoo import explanation

        return explanation.explain(loaded, text, **({"method": method} if method else {}), label=label)
    import kzoo
    from kzoo.runtime import explanation as of_bundles

    return of_bundles.explain(kzoo.load(model, device=device), text, label=label, method=method)
