"""What all tasks share: batching, and the check against what export recorded."""

from __future__ import annotations

import pathlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from typing import Any, ClassVar, Literal, TypeVar

import numpy as np

from kzoo.errors import BundleError, KzooError
from kzoo.runtime.bundle import Bundle, hash_file
from kzoo.runtime.comparison import Difference, compare
from kzoo.runtime.inputs import Batch, ImageReader, TextReader, warn_of_cuts
from kzoo.runtime.manifest import EXPLANATION, GOLDEN_FILE, MANIFEST_FILE, GenerationDefaults, Manifest
from kzoo.runtime.session import Session
from kzoo.text import Tokenizer

Arrays = Mapping[str, np.ndarray]
Section = TypeVar("Section")


class Pipeline(ABC):
    """A loaded bundle: call it with one input or a list, and it gives one result or a list in the same order.

    Safe to call from many threads at once. `kzoo.load` makes the right subclass for the bundle's task.

    Attributes:
        reader: reads what goes in; it knows the tokenizer and the most tokens of a text, or how images are made.
    """

    reader: TextReader | ImageReader

    # Role of each graph, and the outputs that the task reads from it.
    outputs: ClassVar[dict[str, tuple[str, ...]]]

    # Whether ONNX Runtime's threads wait by spinning. Where texts are written, numpy works between the many short
    # runs, and needs the core.
    spinning: ClassVar[bool] = True

    # Whether texts may come as `kzoo.runtime.inputs.Tokens`.
    takes_tokens: ClassVar[bool] = False

    # Whether batches of small graphs run side by side, in as many lanes as there are threads.
    has_lanes: ClassVar[bool] = False
    lanes: int = 1

    def __init__(self, bundle: Bundle, sessions: Mapping[str, Session]):
        self._bundle = bundle
        self._sessions = sessions
        for role, names in self.outputs.items():
            lacking = [name for name in names if name not in sessions[role].outputs]
            if lacking:
                raise BundleError(
                    f"{bundle.folder}: graph '{role}' has no output {', '.join(lacking)}, "
                    f"which task '{self.task}' needs. Export the bundle again."
                )

    @property
    def manifest(self) -> Manifest:
        """The bundle's manifest."""
        return self._bundle.manifest

    @property
    def folder(self) -> pathlib.Path:
        """Where the bundle lies, from the root on."""
        return self._bundle.folder.absolute()

    @property
    def name(self) -> str:
        """The bundle's name, which a service answers to."""
        return self.manifest.name

    @property
    def task(self) -> str:
        """What the bundle does, for example `"classification"`."""
        return self.manifest.task

    @property
    def checksum(self) -> str:
        """The sha256 of the manifest, which has those of all other files."""
        return hash_file(self._bundle.folder / MANIFEST_FILE).sha256

    @property
    def device(self) -> str:
        """Where it runs, `"cpu"` or `"cuda"`."""
        return next(iter(self._sessions.values())).device

    def __repr__(self) -> str:
        return f"<kzoo pipeline '{self.name}': {self.task} on {self.device}>"

    @property
    def explanation(self) -> Session | None:
        """The graph that explains what the bundle gives, if it has one; opened when first asked for."""
        return self._sessions.get(EXPLANATION)

    @abstractmethod
    def __call__(self, inputs: Any) -> Any:
        """Run the task on one input or a list of them."""

    def class_names(self, count: int) -> list[str]:
        """Return the names of the graph's classes, of which there are so many.

        Raises:
            BundleError: the manifest names another number of classes.
        """
        labels = self.manifest.labels or [f"LABEL_{index}" for index in range(count)]
        if len(labels) != count:
            raise BundleError(
                f"{self._bundle.folder}: the graph has {count} classes and the manifest "
                f"{len(labels)} labels. Export the bundle again."
            )
        return labels

    def verify(self) -> float:
        """Run the inputs that export recorded in golden.npz, and compare with the outputs recorded there.

        Returns:
            The largest absolute difference over all outputs.

        Raises:
            BundleError: as `compare_golden` does.
        """
        found = self.compare_golden().values()
        return max(difference.absolute for outputs in found for difference in outputs.values())

    def compare_golden(self) -> dict[str, dict[str, Difference]]:
        """Compare each output with what export recorded in golden.npz.

        Returns:
            The figures by graph and output, the worst over the recorded cases.

        Raises:
            BundleError: naming the case, the output and the place, if one differs by more than the manifest's
                tolerance, absolute plus relative; or if there is nothing to compare with.
        """
        found: dict[str, dict[str, Difference]] = {}
        for case, role, inputs, expected in self._golden():
            if role not in self._sessions:
                raise BundleError(f"{GOLDEN_FILE}, case '{case}': the bundle has no graph '{role}'.")
            got = self._sessions[role].run(inputs)
            outputs = found.setdefault(role, {})
            for name, wanted in expected.items():
                where = f"{self._bundle.folder}, case '{case}', output '{name}' of graph '{role}'"
                if name not in got or got[name].shape != wanted.shape:
                    shape = got[name].shape if name in got else "nothing"
                    raise BundleError(f"{where}: expected shape {wanted.shape}, got {shape}.")
                result = compare(name, wanted, got[name], self.manifest.tolerance)
                if result.beyond:
                    raise BundleError(
                        f"{where} differs by {result.difference.absolute:.3g} on {self.device} from what export "
                        f"recorded, at {result.place}: {result.account}; {result.beyond:,} of {result.total:,} "
                        f"values are beyond the tolerance of {self.manifest.tolerance:.3g}. Export the bundle again."
                    )
                outputs[name] = outputs.get(name, result.difference) | result.difference
        return found

    def _golden(self) -> Iterator[tuple[str, str, Arrays, Arrays]]:
        """Yield case, graph, inputs and outputs from keys `{case}/{graph}/input|output/{name}`."""
        file = self._bundle.path(GOLDEN_FILE)
        cases: dict[tuple[str, str], dict[str, dict[str, np.ndarray]]] = {}
        try:
            with np.load(file, allow_pickle=False) as golden:
                for key in golden.files:
                    case, role, side, name = key.rsplit("/", 3)
                    cases.setdefault((case, role), {"input": {}, "output": {}})[side][name] = golden[key]
        except Exception as error:  # zipfile, zlib and numpy each fail in their own way
            raise BundleError(f"{file} cannot be read: {error}. Export the bundle again.") from error
        if not any(sides["output"] for sides in cases.values()):
            raise BundleError(f"{file} holds no outputs to compare with. Export the bundle again.")
        for (case, role), sides in cases.items():
            yield case, role, sides["input"], sides["output"]

    def _text_reader(
        self, kinds: Literal["singles", "pairs", "both"] = "singles", offsets: bool = False
    ) -> TextReader:
        settings = self._needed("text", self.manifest.text)
        tokenizer = Tokenizer.from_file(self._bundle.path(settings.tokenizer))
        return TextReader(tokenizer, settings.max_length, kinds, offsets=offsets, tokens=self.takes_tokens)

    def _image_reader(self) -> ImageReader:
        return ImageReader(self._needed("image", self.manifest.image))

    def _generation_defaults(self) -> GenerationDefaults:
        return self._needed("generation", self.manifest.generation)

    def _needed(self, section: str, content: Section | None) -> Section:
        if content is None:
            raise BundleError(
                f"{self._bundle.folder / MANIFEST_FILE} has no section '{section}', "
                f"which task '{self.task}' needs. Export the bundle again."
            )
        return content

    def _in_batches(
        self,
        reader: TextReader | ImageReader,
        inputs: Any,
        batch_size: int,
        compute: Callable[[Batch], list[Any]],
    ) -> Any:
        """Run `compute` on batches of inputs of similar length; results come in the order of the inputs."""
        if batch_size < 1:
            raise KzooError(f"batch_size is {batch_size}; it must be at least 1.")
        items, bare = reader.listed(inputs)
        results: list[Any] = [None] * len(items)
        cut: list[int] = []
        order = sorted(range(len(items)), key=lambda index: reader.size(items[index]))
        for start in range(0, len(order), batch_size):
            places = order[start : start + batch_size]
            batch = reader.read([items[place] for place in places], start)
            cut += [place for place, too_long in zip(places, batch.truncated, strict=True) if too_long]
            for place, result in zip(places, compute(batch), strict=True):
                results[place] = result
        if cut and isinstance(reader, TextReader):
            warn_of_cuts(cut, len(items), reader.max_length, stacklevel=3)
        return results[0] if bare else results
