"""One model in several precisions, pruned, and beside others: what each scores, weighs and takes."""

from __future__ import annotations

import dataclasses
import json
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from kzoo.errors import KzooError
from kzoo.models import TransformerModel, prune_units
from kzoo.recipes.compression.origins import Origin
from kzoo.recipes.compression.trade_offs import draw_trade_offs, front
from kzoo.recipes.data.parts import amount
from kzoo.recipes.directory import Progress, write
from kzoo.recipes.evaluation.examining import Examiner, keep_scores
from kzoo.recipes.evaluation.pictures import save
from kzoo.recipes.evaluation.showing import cell
from kzoo.recipes.evaluation.timing import time_pipelines, timed_unit
from kzoo.recipes.running import calibration_inputs
from kzoo.recipes.schema.config import LOWER_IS_BETTER
from kzoo.recipes.schema.sections import DTYPES
from kzoo.runtime import load
from kzoo.training import prune

SPARSITIES = (0.3, 0.5)
FEWER_UNITS = (0.25,)
PICTURE = "compression.png"


@dataclass(frozen=True)
class Row:
    """What was measured of one bundle.

    Attributes:
        name: its precision and sparsity, or the name of another model's bundle.
        bundle: where it lies.
        score: the leading one, on the test data.
        margin: half its 95% confidence interval, if it has one.
        size: bytes on disk.
        compressed: bytes of its files when each is compressed, as for a download.
        milliseconds: median of one input at a time.
    """

    name: str
    bundle: str
    score: float
    margin: float | None
    size: int
    compressed: int
    milliseconds: float


@dataclass(frozen=True)
class Compression:
    """What `compress` found.

    Attributes:
        metric: the score that counts.
        lower_is_better: whether low ones are good.
        measured_on: how much test data there is.
        unit: what the milliseconds are for.
        device: where it ran.
        rows: what was measured.
        refused: why a form of the model was not made, by its name.
    """

    metric: str
    lower_is_better: bool
    measured_on: str
    unit: str
    device: str
    rows: list[Row]
    refused: dict[str, str] = field(default_factory=dict)

    def fronts(self) -> dict[str, list[str]]:
        """Return the names on the Pareto fronts, the cheapest first, by `size`, `compressed` and `milliseconds`."""
        scores = [-row.score if self.lower_is_better else row.score for row in self.rows]
        return {
            cost: [
                self.rows[place].name for place in front([getattr(row, cost) for row in self.rows], scores)
            ]
            for cost in ("size", "compressed", "milliseconds")
        }

    def table(self) -> tuple[list[str], list[list[str]]]:
        """Return heads and cells of a table of all rows."""
        names = {"size": "size", "compressed": "download", "milliseconds": "time"}
        fronts = self.fronts()
        heads = ["", self.metric, "±", "MB", "MB to download", f"ms for {self.unit}"]
        cells = [
            [
                row.name,
                f"{row.score:.4f}",
                "" if row.margin is None else f"{row.margin:.4f}",
                f"{row.size / 1e6:.2f}",
                f"{row.compressed / 1e6:.2f}",
                f"{row.milliseconds:.2f}",
                ", ".join(word for cost, word in names.items() if row.name in fronts[cost]),
            ]
            for row in self.rows
        ]
        return [*heads, "best by"], cells

    def draw(self, path: Path) -> None:
        """Draw score over size and over time, as a PNG file."""
        figure = draw_trade_offs(
            [row.name for row in self.rows],
            [row.score for row in self.rows],
            [row.margin for row in self.rows],
            {
                "MB on disk": [row.size / 1e6 for row in self.rows],
                f"milliseconds for {self.unit}": [row.milliseconds for row in self.rows],
            },
            self.metric,
            self.lower_is_better,
        )
        save(figure, path)

    def report(self, folder: Path, environment: Mapping[str, Any]) -> None:
        """Write `compression.json`, `compression.md` and `compression.png`.

        Args:
            folder: where they go.
            environment: command, date and machine, as `describe_environment` gives them.
        """
        found = {**dataclasses.asdict(self), "fronts": self.fronts(), "environment": environment}
        write(folder / "compression.json", json.dumps(found, indent=1) + "\n")
        heads, cells = self.table()
        lines = [
            heads,
            ["---", *["---:"] * (len(heads) - 2), "---"],
            *([cell(each) for each in row] for row in cells),
        ]
        versions = ", ".join(f"{name} {version}" for name, version in environment["versions"].items())
        text = [
            f"# {self.metric} on {self.measured_on}",
            "\n".join(f"| {' | '.join(line)} |" for line in lines),
            "Best by: no other one costs no more and scores no less. ± is half a 95% confidence interval; times are "
            "medians of one input at a time, all bundles in turn.",
            *(f"Not made: {name}. {reason}" for name, reason in self.refused.items()),
            f"`{environment['command']}`, on {environment['started'][:10]}, {environment['hardware']}, "
            f"{self.device}, with {versions}.",
            f"![Score by size and by time]({PICTURE})",
        ]
        write(folder / "compression.md", "\n\n".join(text) + "\n")
        self.draw(folder / PICTURE)


def compress(
    origin: Origin,
    folder: Path,
    *,
    dtypes: Sequence[str] = DTYPES,
    sparsities: Sequence[float] = SPARSITIES,
    fewer_units: Sequence[float] = FEWER_UNITS,
    beside: Sequence[Path] = (),
    device: Literal["auto", "cuda", "cpu"] = "auto",
    progress: Progress | None = None,
) -> Compression:
    """Export a model in several precisions and pruned, and measure all bundles on its recipe's test data.

    Args:
        origin: the model, which is pruned in place, with its recipe.
        folder: where the bundles go, below `bundles`.
        dtypes: precisions, as in `kzoo.export.to_bundle`.
        sparsities: shares of the weights that become zeros; those bundles are in the recipe's own precision.
        fewer_units: shares of the feed-forwards' hidden units that go; in that precision too.
        beside: other bundles for the same task, to be measured too.
        device: as in `kzoo.load`.
        progress: called with a line of text at each step.

    Raises:
        KzooError: another bundle is for something else, or the model cannot be exported in any precision.
    """
    say = progress or (lambda line: None)
    others: dict[str, Path] = {}
    for path in dict.fromkeys(beside):
        name = _name_of(path, origin)
        others[f"{name} ({path})" if name in (*dtypes, *others) else name] = path
    forms = _forms(origin.recipe.export.dtype, dtypes, sparsities, fewer_units)
    made, refused = _export_all(origin, folder / "bundles", forms, say)
    bundles = {**made, **others}
    pipelines = {name: load(path, device=device) for name, path in bundles.items()}
    say(f"Taking the time of {len(bundles)} bundles, in turn.")
    taken = time_pipelines(pipelines, origin.recipe, origin.parts)
    examiner = Examiner(origin.recipe, origin.parts, origin.language)
    rows, metric = [], origin.recipe.metric
    for name, pipeline in pipelines.items():
        say(f"Scoring {name}.")
        found = examiner.ask(pipeline)
        scores = found.scores(origin.parts.test.targets)
        if name in made:
            keep_scores(bundles[name], scores, found)
        score, sizes = scores[metric], _sizes(bundles[name])
        rows.append(Row(name, str(bundles[name]), score.value, score.margin, *sizes, taken[name]))
    return Compression(
        metric=metric,
        lower_is_better=metric in LOWER_IS_BETTER,
        measured_on=f"{amount(origin.parts.test, origin.recipe):,} test {origin.recipe.unit}",
        unit=timed_unit(origin.recipe),
        device=pipeline.device,
        rows=rows,
        refused=refused,
    )


@dataclass(frozen=True)
class _Form:
    """What a model is made into: a precision, with a share of its weights at zero, or of its hidden units gone."""

    dtype: str
    sparsity: float = 0.0
    fewer_units: float = 0.0

    @property
    def name(self) -> str:
        if self.fewer_units:
            return f"{self.dtype}, {100 * self.fewer_units:g}% fewer units"
        return f"{self.dtype}, {100 * self.sparsity:g}% pruned" if self.sparsity else self.dtype

    def of(self, model: TransformerModel) -> TransformerModel:
        """Return the model to export; weights are set to zero in place."""
        if self.fewer_units:
            return prune_units(model, self.fewer_units)
        if self.sparsity:
            prune(model, self.sparsity)
        return model


def _forms(
    own: str, dtypes: Sequence[str], sparsities: Sequence[float], fewer_units: Sequence[float]
) -> list[_Form]:
    forms = [_Form(dtype) for dtype in dtypes]
    forms += [_Form(own, fewer_units=share) for share in sorted(fewer_units)]
    # Last, since they change the model; the zeros of a lower sparsity are among those of a higher one.
    return forms + [_Form(own, sparsity=sparsity) for sparsity in sorted(sparsities)]


def _export_all(
    origin: Origin, folder: Path, forms: Sequence[_Form], say: Progress
) -> tuple[dict[str, Path], dict[str, str]]:
    """Return the bundles by name, and why others could not be made."""
    made: dict[str, Path] = {}
    refused: dict[str, str] = {}
    for form in forms:
        say(f"Exporting {form.name}.")
        path = folder / form.name.replace(", ", "-").replace("% ", "-percent-").replace(" ", "-")
        try:
            _export(origin, form.of(origin.model), path, form.dtype)
        except KzooError as error:
            say(f"Not made: {form.name}. {error}")
            refused[form.name] = str(error)
        else:
            made[form.name] = path
    if not made:
        raise KzooError(f"The model cannot be exported: {next(iter(refused.values()), 'say a precision')}")
    return made, refused


def _export(origin: Origin, model: TransformerModel, path: Path, dtype: str) -> None:
    from kzoo.export import to_bundle

    wanted = origin.recipe.export
    to_bundle(
        model,
        path,
        name=f"{origin.recipe.name}-{path.name}",
        tolerance=wanted.tolerance,
        dtype=dtype,
        target=wanted.target,
        calibration=calibration_inputs(origin.recipe, origin.parts) if dtype == "int8_static" else None,
        explanations=wanted.explanations,
    )


def _name_of(path: Path, origin: Origin) -> str:
    """Return what another bundle is called, if it does what the model does."""
    pipeline, model = load(path, device="cpu"), origin.model
    if pipeline.task != model.task:
        raise KzooError(f"'{path}' is for the task '{pipeline.task}', and the model for '{model.task}'.")
    if {*(pipeline.manifest.labels or ())} != {*(model.labels or ())}:
        raise KzooError(f"'{path}' has other classes than the model.")
    return pipeline.name


def _sizes(bundle: Path) -> tuple[int, int]:
    """Return how many bytes a bundle's files have, and how many when each is compressed."""
    size = compressed = 0
    for file in bundle.iterdir():
        packer = zlib.compressobj()
        with file.open("rb") as content:
            while block := content.read(1 << 20):
                size += len(block)
                compressed += len(packer.compress(block))
        compressed += len(packer.flush())
    return size, compressed
