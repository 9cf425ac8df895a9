"""`kzoo explain`: which words of a text, or parts of an image, a label comes from."""

from __future__ import annotations

import pathlib
from typing import Annotated, Any

import typer

from kzoo.commands.loading import import_models
from kzoo.commands.terminal import AsJson, Device, errors, print_json
from kzoo.errors import KzooError


def explain(
    model: Annotated[pathlib.Path, typer.Argument(help="Folder of a bundle, or a .keras file.")],
    inputs: Annotated[
        list[str], typer.Argument(help="A text, or two for a model of pairs; or the file of an image.")
    ],
    method: Annotated[
        str | None,
        typer.Option(help="integrated_gradients, rollout or occlusion; the best that there is unless given."),
    ] = None,
    label: Annotated[
        str | None, typer.Option(help="Which label; the most probable one unless given.")
    ] = None,
    output: Annotated[pathlib.Path | None, typer.Option(help="Draw words or image into this .png.")] = None,
    device: Device = "auto",
    as_json: AsJson = False,
) -> None:
    """Say which words of a text, or which parts of an image, a label comes from."""
    if len(inputs) > 2:
        raise KzooError(
            f"There are {len(inputs)} texts; one is explained at a time, or a pair: put it in quotes."
        )
    if output is not None and output.suffix != ".png":
        raise KzooError(f"--output '{output}' does not end in .png, which is what pictures are.")
    item: Any = inputs[0] if len(inputs) == 1 else tuple(inputs)
    with errors.status("explaining"):
        found = _explain(model, item, method, label, device)
    is_text = hasattr(found, "words")
    if output is not None:
        from kzoo.runtime.shading import draw_image, draw_words

        (draw_words if is_text else draw_image)(found, output)
    if as_json:
        print_json(found.as_dict())
        return
    from kzoo.runtime.tables import draw_table

    typer.echo(f"{found.label} {found.score:.4f}, by {found.method}")
    if is_text:
        rows = [
            (word.text, f"{weight:+.4f}") for word, weight in zip(found.words, found.weights, strict=True)
        ]
        typer.echo("\n" + draw_table(("word", "weight"), rows))
    elif output is None:
        typer.echo("Which parts of the image: --output explained.png draws it, --json writes it.", err=True)


def _explain(model: pathlib.Path, item: Any, method: str | None, label: str | None, device: Any) -> Any:
    if model.suffix == ".keras":
        if device != "auto":
            raise KzooError("--device is for bundles; Keras runs where its backend does.")
        loaded = import_models().load(model)
        from kzoo import explanation

        of_keras = explanation.explain_image if loaded.task == "image_classification" else explanation.explain
        return of_keras(loaded, item, **({"method": method} if method else {}), label=label)
    import kzoo
    from kzoo.runtime.explanation import explain as explain_text
    from kzoo.runtime.image_explanation import explain_image

    pipeline = kzoo.load(model, device=device)
    of_bundle = explain_image if pipeline.task == "image_classification" else explain_text
    return of_bundle(pipeline, item, label=label, method=method)
