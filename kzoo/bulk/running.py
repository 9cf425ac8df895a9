"""A bundle over files: parts of rows, each written whole or not at all."""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
import json
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from kzoo.bulk.engines import Answer, Engine, LocalEngine
from kzoo.bulk.record import (
    BundleRecord,
    InputRecord,
    Option,
    PartRecord,
    Record,
    check_same,
    check_same_inputs,
    read_record,
)
from kzoo.bulk.rows import Columns, read_rows
from kzoo.errors import KzooError
from kzoo.replace import replacing
from kzoo.runtime import Pipeline, hash_file
from kzoo.runtime.inputs import TextReader
from kzoo.runtime.results import plain
from kzoo.text import Text

PART_ROWS = 10_000
# Rows that a bundle is asked for at once: enough to sort them by length, and soon enough done to be told.
_TOGETHER = 1_000


@dataclass(frozen=True)
class Totals:
    """What a run came to.

    Attributes:
        rows_in: rows of the inputs.
        rows_out: rows that were written.
        without_text: rows without a text, or with a blank one; their result is null, or not a number.
        truncated: texts that were cut to what the model takes.
        parts: files that were written.
        parts_kept: those of them that an earlier run had written.
    """

    rows_in: int
    rows_out: int
    without_text: int
    truncated: int
    parts: int
    parts_kept: int


def run(
    pipeline: Pipeline,
    inputs: Sequence[Path],
    output: Path,
    *,
    columns: Columns | None = None,
    part_rows: int = PART_ROWS,
    options: Mapping[str, Any] | None = None,
    engine: Engine | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Totals:
    """Run a bundle of texts on all rows of files; a run that was stopped, even killed, goes on.

    Embeddings go to `part-000000.npy` and so on, float32 (rows, dim); what other bundles give to
    `part-000000.jsonl`, a line a row. Rows keep their order, and none is left out. `run.json` has the counts and
    checksums.

    Args:
        pipeline: the bundle, as `kzoo.load` gives it.
        inputs: csv, tsv, jsonl, parquet and txt files; all but parquet perhaps with `.gz`.
        output: the folder; new, empty, or of an earlier run with the same inputs and options.
        columns: where the texts are.
        part_rows: rows of a part; no part has rows of two files.
        options: what the pipeline's call is asked for besides the texts.
        engine: who runs it, a `LocalEngine` unless given; what comes out is the same, and what one began another
            goes on with.
        progress: told the rows that are done and those in all.

    Raises:
        KzooError: a file cannot be read; the folder holds something else; the bundle is for images.

    Example:
        >>> topic = kzoo.load("bundles/topic")  # doctest: +SKIP
        >>> run(topic, [Path("news.jsonl")], Path("labels")).rows_out  # doctest: +SKIP
        120000
    """
    columns, options = columns or Columns(), dict(options or {})
    _check(pipeline, inputs, columns, part_rows)
    bundle = BundleRecord(name=pipeline.name, task=pipeline.task, sha256=pipeline.checksum)
    said: dict[str, Option] = {
        **dataclasses.asdict(columns),
        "device": pipeline.device,
        "part_rows": part_rows,
        **options,
    }
    record = read_record(output)
    if record is not None:
        check_same(output, record, bundle, said)
        check_same_inputs(output, record, [*inputs])
        for name in record.forget_damaged(output):
            warnings.warn(f"{output / name} is missing or was changed; it is made again.", stacklevel=2)
    else:
        read = [_look_through(path, columns) for path in inputs]
        record = Record(bundle=bundle, options=said, inputs=read)
    # In any case, so that nothing stays of an earlier run that was killed as it did this.
    record.save(output)
    kept = len(record.parts)
    progress = progress or (lambda done, total: None)
    _Run(pipeline, columns, part_rows, options, output, record, engine or LocalEngine(), progress).go(inputs)
    parts = record.parts.values()
    return Totals(
        rows_in=sum(file.rows for file in record.inputs),
        rows_out=sum(part.rows for part in parts),
        without_text=sum(part.without_text for part in parts),
        truncated=sum(part.truncated for part in parts),
        parts=len(parts),
        parts_kept=kept,
    )


def _check(pipeline: Pipeline, inputs: Sequence[Path], columns: Columns, part_rows: int) -> None:
    if part_rows < 1:
        raise KzooError(f"part_rows is {part_rows}; it must be at least 1.")
    if not inputs:
        raise KzooError("There are no inputs: give files.")
    if not isinstance(pipeline.reader, TextReader):
        raise KzooError(f"'{pipeline.name}' reads images; only bundles that read texts are run over files.")
    kinds = pipeline.reader.kinds
    if columns.text_pair is None and kinds == "pairs":
        raise KzooError(f"'{pipeline.name}' reads pairs: say where the second texts are, with --text-pair.")
    if columns.text_pair is not None and kinds == "singles":
        raise KzooError(f"'{pipeline.name}' reads single texts: leave out --text-pair.")
    for path in inputs:
        if not path.is_file():
            raise KzooError(f"There is no file {path}.")


def _look_through(path: Path, columns: Columns) -> InputRecord:
    """Count a file's rows, all of which can then be read."""
    rows = without_text = 0
    for text in read_rows(path, columns):
        rows += 1
        without_text += text is None
    found = hash_file(path)
    return InputRecord(
        name=path.name, size=found.size, sha256=found.sha256, rows=rows, without_text=without_text
    )


class _Part(NamedTuple):
    """A part that is to be made.

    Attributes:
        name: of its file.
        texts: of its rows; None where one is missing.
        where: for errors, the place of its rows.
    """

    name: str
    texts: list[Text | None]
    where: str

    def pieces(self) -> Iterator[list[Text | None]]:
        """Yield its texts, as many as are asked at once."""
        for start in range(0, len(self.texts), _TOGETHER):
            yield self.texts[start : start + _TOGETHER]


@dataclass(frozen=True)
class _Run:
    """A run under way."""

    pipeline: Pipeline
    columns: Columns
    part_rows: int
    options: Mapping[str, Any]
    output: Path
    record: Record
    engine: Engine
    progress: Callable[[int, int], None]

    def go(self, inputs: Sequence[Path]) -> None:
        """Make the parts that are not there yet."""
        total = sum(file.rows for file in self.record.inputs)
        done = sum(part.rows for part in self.record.parts.values())
        self.progress(done, total)

        def tell(rows: int) -> None:
            nonlocal done
            done += rows
            self.progress(done, total)

        # The engine may read ahead of what is written; each part is read once.
        parts, ahead = itertools.tee(self._missing(inputs))
        asked = ([text for text in piece if text is not None] for part in ahead for piece in part.pieces())
        with contextlib.closing(self.engine.answers(self.pipeline, self.options, asked)) as answers:
            for part in parts:
                self.record.parts[part.name] = self._make(part, answers, tell)
                self.record.save(self.output)

    def _missing(self, inputs: Sequence[Path]) -> Iterator[_Part]:
        """Read the parts that are not there yet."""
        ending = ".npy" if self.pipeline.task == "embedding" else ".jsonl"
        number = 0
        for path, file in zip(inputs, self.record.inputs, strict=True):
            starts = range(0, file.rows, self.part_rows)
            names = [f"part-{number + place:06d}{ending}" for place in range(len(starts))]
            number += len(starts)
            missing = {name for name in names if name not in self.record.parts}
            if not missing:
                continue
            rows = read_rows(path, self.columns)
            for name, start in zip(names, starts, strict=True):
                texts = list(itertools.islice(rows, self.part_rows))
                if len(texts) != min(self.part_rows, file.rows - start):
                    raise KzooError(f"{path} changed while it was read. Run again into another folder.")
                if name in missing:
                    yield _Part(name, texts, f"{path}, from row {start + 1:,} on")

    def _make(self, part: _Part, answers: Iterator[Answer], tell: Callable[[int], None]) -> PartRecord:
        truncated = 0

        def results() -> Iterator[Any]:
            nonlocal truncated
            for piece in part.pieces():
                answer = next(answers)
                if answer.error is not None:
                    raise KzooError(f"{part.where}: {answer.error}") from answer.error
                for each in answer.said:
                    warnings.warn_explicit(each.message, each.category, each.filename, each.lineno)
                truncated += answer.truncated
                found = iter(answer.results)
                yield from (None if text is None else next(found) for text in piece)
                tell(len(piece))

        target = self.output / part.name
        with replacing(target, is_file=True) as folder:
            write = self._write_vectors if target.suffix == ".npy" else _write_lines
            rows = write(folder / target.name, results())
        found = hash_file(target)
        return PartRecord(
            size=found.size,
            sha256=found.sha256,
            rows=rows,
            without_text=sum(text is None for text in part.texts),
            truncated=truncated,
        )

    def _write_vectors(self, file: Path, results: Iterator[Any]) -> int:
        """Write vectors; those of rows without text are not numbers."""
        rows = list(results)
        known = next((row for row in rows if row is not None), None)
        nothing = np.full_like(self.pipeline("?") if known is None else known, np.nan)
        np.save(file, np.stack([nothing if row is None else row for row in rows]), allow_pickle=False)
        return len(rows)


def _write_lines(file: Path, results: Iterator[Any]) -> int:
    count = 0
    with file.open("w", encoding="utf-8", newline="\n") as lines:
        for result in results:
            lines.write(json.dumps(plain(result), ensure_ascii=False) + "\n")
            count += 1
    return count
