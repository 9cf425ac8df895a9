"""The command `kzoo`: thin, each command a few lines over the library."""

from __future__ import annotations

import dataclasses
import itertools
import os
import pathlib
import warnings
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer
from typer.core import TyperGroup

from kzoo import __version__
from kzoo.commands.benching import bench
from kzoo.commands.bulk import run
from kzoo.commands.compression import compress
from kzoo.commands.explanation import explain
from kzoo.commands.loading import import_models
from kzoo.commands.prediction import predict
from kzoo.commands.scoring import compare, evaluate
from kzoo.commands.serving import serve
from kzoo.commands.terminal import AsJson, BundlePath, Device, Overrides, console, errors, print_json
from kzoo.commands.tuning import tune
from kzoo.errors import KzooError

if TYPE_CHECKING:
    import keras

# TensorFlow's notes say nothing that a user of this command could act on.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")


class _Commands(TyperGroup):
    """Turns a user's mistake into a message and an exit code."""

    def invoke(self, context: Any) -> Any:
        """Run the command; exit with 1 after a mistake, 130 after Ctrl-C."""
        try:
            return super().invoke(context)
        except KzooError as error:
            errors.print(f"[bold red]error:[/] {_escape(str(error))}", soft_wrap=True)
            raise typer.Exit(1) from None
        except KeyboardInterrupt:
            errors.print("Stopped.")
            raise typer.Exit(130) from None


app = typer.Typer(
    cls=_Commands,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Transformers in Keras 3, and a way out: verified ONNX bundles that run without Keras.",
)


def main() -> None:
    """Run the command line."""
    warnings.simplefilter("default", UserWarning)
    warnings.showwarning = _show_warning  # type: ignore[assignment]
    app()


@app.callback(invoke_without_command=True)
def _version(version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False) -> None:
    if version:
        typer.echo(f"kzoo {__version__}")
        raise typer.Exit


@app.command("list")
def list_(
    pattern: Annotated[str, typer.Argument(help="Shell pattern, such as 'vit*'.")] = "*",
    as_json: AsJson = False,
) -> None:
    """List the models of the zoo: size, cost of an example, input, licence of the published weights, tasks."""
    models = import_models()
    names = models.list_models(pattern)
    if not names:
        raise KzooError(f"No model matches '{pattern}'. `kzoo list` shows all.")
    from kzoo.models.summary import describe

    entries = [describe(name) for name in names]
    if as_json:
        print_json([dataclasses.asdict(entry) for entry in entries])
        return
    width = max(len(entry.name) for entry in entries)
    typer.echo(f"{'model':{width}}  {'parameters':>13}  GFLOPs  {'input':13}  weights' licence")
    for tasks, same in itertools.groupby(entries, key=lambda entry: entry.tasks):
        typer.secho(f"\n{', '.join(tasks)}:", bold=True)
        for entry in same:
            numbers = f"{entry.parameters:13,}  {entry.flops / 1e9:6.3g}  {entry.input:13}"
            typer.echo(f"{entry.name:{width}}  {numbers}  {entry.license}")
    typer.echo("\nGFLOPs of one example: an image, or a text of 128 tokens. `kzoo show MODEL` draws one.")


@app.command()
def show(
    model: Annotated[str, typer.Argument(help="Name of a model, from `kzoo list`.")],
    task: Annotated[str | None, typer.Option(help="Task; the model's own default unless given.")] = None,
    as_json: AsJson = False,
) -> None:
    """Draw a model's stack of blocks, with widths, parameters, shapes and FLOPs."""
    import_models()
    from kzoo.models.drawing import draw
    from kzoo.models.summary import summarize

    summary = summarize(model, task)
    if as_json:
        print_json(dataclasses.asdict(summary))
        return
    typer.echo(draw(summary))


@app.command()
def train(
    recipe: Annotated[pathlib.Path, typer.Argument(help="A recipe, such as models/NAME/recipe.toml.")],
    overrides: Overrides = None,
    fresh: Annotated[bool, typer.Option(help="Start another run instead of going on with one.")] = False,
    publish: Annotated[bool, typer.Option(help="Copy bundle and card to the recipe's folder.")] = False,
    as_json: AsJson = False,
) -> None:
    """Train, evaluate and export what a recipe says; a run that was stopped goes on."""
    import_models()
    from kzoo import recipes

    result = recipes.run(
        recipe,
        overrides=overrides or [],
        fresh=fresh,
        publish=publish,
        progress=lambda line: errors.print(line, markup=False, highlight=False, soft_wrap=True),
    )
    if as_json:
        print_json(
            {"directory": str(result.directory), "bundle": str(result.bundle), "scores": result.scores}
        )
        return
    for name, score in result.scores.items():
        typer.echo(f"{name} {score:.4g}")
    typer.echo(f"bundle {result.bundle}")


@app.command()
def export(
    model: Annotated[
        str,
        typer.Argument(
            help="A .keras file, or a checkpoint: its directory, package:MODULE, or owner/name on the hub. For "
            "triton also a finished bundle."
        ),
    ],
    output: Annotated[
        pathlib.Path,
        typer.Argument(help="Folder of the bundle, or a path ending in .onnx; for triton the repository."),
    ],
    tokenizer: Annotated[pathlib.Path | None, typer.Option(help="A tokenizer.json to attach.")] = None,
    labels: Annotated[str | None, typer.Option(help="Class names: a,b,c or a file of one a line.")] = None,
    task: Annotated[str | None, typer.Option(help="Task, for a checkpoint.")] = None,
    name: Annotated[str | None, typer.Option(help="Name that a service answers to.")] = None,
    target: Annotated[
        str, typer.Option(help="Where it will run: cpu for more nodes, faster there; or any.")
    ] = "any",
    dtype: Annotated[
        str, typer.Option(help="Precision: float32, float16, int8, int8_static or int4.")
    ] = "float32",
    calibration: Annotated[
        pathlib.Path | None, typer.Option(help="Typical texts for int8_static, one a line.")
    ] = None,
    explanations: Annotated[
        bool,
        typer.Option(
            "--explanations",
            "--with-attention",
            help="Add what `kzoo explain` finds integrated gradients and attention by.",
        ),
    ] = False,
    form: Annotated[
        Literal["onnx", "triton"], typer.Option("--format", help="triton: into a Triton model repository.")
    ] = "onnx",
    model_version: Annotated[
        int | None, typer.Option(min=1, help="For triton: which, 1 unless given.")
    ] = None,
    replace: Annotated[bool, typer.Option("--replace", help="For triton: replace that version.")] = False,
    as_json: AsJson = False,
) -> None:
    """Export a trained model to verified ONNX."""
    if form != "triton" and (replace or model_version):
        raise KzooError("--model-version and --replace are for --format triton; a bundle is always replaced.")
    import_models()
    from kzoo import export as exporter

    with errors.status("loading") as status:
        options: dict[str, Any] = {
            "progress": lambda step: status.update(step),
            "target": target,
            "dtype": dtype,
        }
        if calibration is not None:
            options["calibration"] = _read_lines(calibration)
        if explanations and (form == "triton" or output.suffix == ".onnx"):
            raise KzooError("--explanations is for bundles.")
        if explanations:
            options["explanations"] = True
        loaded: Any = model
        if form == "triton" and (pathlib.Path(model) / "manifest.json").is_file():
            options = {}
            if tokenizer or labels or task or calibration or dtype != "float32" or target != "any":
                raise KzooError(
                    "A finished bundle is taken as it is: --tokenizer, --labels, --task, --target, --dtype and "
                    "--calibration are for models."
                )
        else:
            loaded = _load_keras(model, task)
            _attach(loaded, tokenizer, labels)
        if form == "triton":
            options |= {"version": model_version or 1, "replace": replace}
            folders = exporter.to_triton(loaded, output, name=name, **options)
        elif output.suffix == ".onnx":
            report = exporter.to_onnx(loaded, output, **options)
        else:
            report = exporter.to_bundle(loaded, output, name=name, **options)
    if form == "triton":
        if as_json:
            print_json({"folders": folders})
            return
        for folder in folders:
            typer.echo(folder)
        return
    if as_json:
        totals = {name: getattr(report, name) for name in ("largest_difference", "size_bytes", "seconds")}
        print_json({**dataclasses.asdict(report), **totals})
        return
    typer.echo(str(report))


@app.command()
def verify(bundle: BundlePath, device: Device = "auto", as_json: AsJson = False) -> None:
    """Check a bundle's files, and its outputs against those recorded at export."""
    import kzoo

    with errors.status("verifying"):
        pipeline = kzoo.load(bundle, device=device)
        found = pipeline.compare_golden()
    if as_json:
        largest = max(difference.absolute for outputs in found.values() for difference in outputs.values())
        outputs = {
            role: {name: dataclasses.asdict(difference) for name, difference in outputs.items()}
            for role, outputs in found.items()
        }
        print_json(
            {
                "name": pipeline.name,
                "device": pipeline.device,
                "largest_difference": largest,
                "tolerance": pipeline.manifest.tolerance,
                "outputs": outputs,
            }
        )
        return
    from kzoo.runtime.tables import draw_differences

    typer.echo(draw_differences(found))
    typer.echo(
        f"\n{pipeline.name}: files and outputs are right on {pipeline.device}, "
        f"tolerance {pipeline.manifest.tolerance:g}."
    )


@app.command()
def graph(
    path: Annotated[pathlib.Path, typer.Argument(help="Folder of a bundle, or an ONNX file.")],
    device: Device = "auto",
    as_json: AsJson = False,
) -> None:
    """Show what is in a graph: operations, parameters, sizes, and which provider runs each node."""
    from kzoo.runtime.graph import graph_files, inspect

    with errors.status("loading"):
        graphs = {role: inspect(file, device) for role, file in graph_files(path).items()}
    if as_json:
        print_json({role: contents.as_dict() for role, contents in graphs.items()})
        return
    typer.echo("\n\n".join(contents.draw(role) for role, contents in graphs.items()))


for command in (predict, run, explain, evaluate, compare, compress, tune, serve):
    app.command()(command)
app.add_typer(bench, name="bench")


@app.command()
def demo(
    pages: Annotated[bool, typer.Option("--serve/--no-serve", help="Open the gallery at the end.")] = True,
    port: Annotated[
        int | None, typer.Option(min=0, max=65535, help="Port of the gallery; 0 for any free.")
    ] = None,
    open_browser: Annotated[bool, typer.Option(help="Open a browser on the gallery.")] = True,
) -> None:
    """Train a small ViT on handwritten digits, export it, compare it with Keras, and show it on a page."""
    import_models()
    from kzoo.recipes.demo import run_demo

    result = run_demo(console)
    if pages:
        from kzoo import apps

        apps.launch(
            [result.bundle], port=port, open_browser=open_browser, example_images=result.example_images
        )


def _load_keras(source: str, task: str | None) -> keras.Model:
    models = import_models()
    path = pathlib.Path(source)
    if not path.is_file() and path.suffix not in (".keras", ".h5"):
        return models.from_pretrained(source, task=task)
    if task is not None:
        raise KzooError("--task is for a checkpoint; a .keras file knows its task.")
    return models.load(path)


def _attach(model: Any, tokenizer: pathlib.Path | None, labels: str | None) -> None:
    from kzoo.models import TransformerModel

    if (tokenizer or labels) and not isinstance(model, TransformerModel):
        raise KzooError("--tokenizer and --labels are for the zoo's models; this is another Keras model.")
    if tokenizer is not None:
        model.tokenizer = tokenizer
    if labels is not None:
        file = pathlib.Path(labels)
        model.labels = _read_lines(file) if file.is_file() else [part.strip() for part in labels.split(",")]


def _read_lines(path: pathlib.Path) -> list[str]:
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except OSError as error:
        raise KzooError(f"Cannot read '{path}': {error.strerror}.") from None
    except UnicodeDecodeError:
        raise KzooError(f"'{path}' is not UTF-8 text.") from None
    return [line for line in lines if line.strip()]


def _escape(text: str) -> str:
    return text.replace("[", r"\[")


def _show_warning(message: Any, category: Any, *_: Any) -> None:
    errors.print(f"[yellow]warning:[/] {_escape(str(message))}", soft_wrap=True)
