"""An encoder and a decoder that share what the one has read, or several such pairs that write together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import numpy as np

from kzoo.errors import BundleError, KzooError
from kzoo.runtime.caches import as_past, empty_cache, vocab_size
from kzoo.runtime.manifest import GraphSpec
from kzoo.runtime.session import Session
from kzoo.search import AveragedStep, CachedStep, Step, average
from kzoo.search.steps import PRESENT

ATTENTION = "cross_attention"


class Writer(Protocol):
    """What reads sources and writes targets."""

    vocab_size: int

    def read(self, feeds: Mapping[str, np.ndarray]) -> Any:
        """Encode `input_ids` and `attention_mask` (batch, sequence); the result is for this object's own methods."""
        ...

    def step(self, source: Any) -> Step:
        """Return a step function that writes what follows from sources that were read."""
        ...

    def follow(self, source: Any, targets: np.ndarray, outputs: Sequence[str]) -> dict[str, np.ndarray]:
        """Return what the decoder makes of whole targets, which it is given.

        Args:
            source: what was read, of n sources.
            targets: int64 (n * k, length), each source's k targets one after another, from the start token on.
            outputs: of `log_probs` (n * k, length, vocab_size) of what follows each token, and `cross_attention`
                (n * k, length, sequence), which sums to 1 over the source.
        """
        ...


class EncoderDecoder:
    """A bundle's two graphs.

    Args:
        encoder: the one.
        decoder: the other.
        graph: what the manifest says of the decoder.
    """

    def __init__(self, encoder: Session, decoder: Session, graph: GraphSpec):
        self._encoder = encoder
        self._decoder = decoder
        self._graph = graph
        self._memory_names = [name for name in encoder.outputs if name.startswith(PRESENT)]
        self.vocab_size = vocab_size(graph)

    def read(self, feeds: Mapping[str, np.ndarray]) -> dict[str, Any]:
        """Return what the decoder attends to; see `Writer`."""
        memory = as_past(self._encoder.run_kept(feeds, self._memory_names))
        return {"attention_mask": feeds["attention_mask"], **memory}

    def step(self, source: dict[str, Any]) -> CachedStep:
        """Return a step function with a cache; see `Writer`."""
        cache = empty_cache(self._graph, len(source["attention_mask"]))
        return CachedStep(self._decoder, "decoder_input_ids", cache, self.vocab_size, memory=source)

    def follow(
        self, source: dict[str, Any], targets: np.ndarray, outputs: Sequence[str]
    ) -> dict[str, np.ndarray]:
        """Decode whole targets at once; see `Writer`.

        Raises:
            BundleError: if the bundle is from before decoders said where they look.
        """
        if ATTENTION in outputs and ATTENTION not in self._decoder.outputs:
            raise BundleError(
                f"{self._graph.file} does not say where in the source it looks. Export the bundle again."
            )
        rows, length = targets.shape
        feeds = {
            "decoder_input_ids": targets,
            "beam_idx": np.zeros(rows, np.int64),
            "logits_to_keep": np.array(length if "log_probs" in outputs else 1),
            "top_k": np.array(1),
            **source,
            **empty_cache(self._graph, 1),
        }
        found = self._decoder.run_kept(feeds, outputs)
        return {name: self._decoder.to_numpy(value) for name, value in found.items()}


class Averaged:
    """Several that write together: each token's probability is the mean of theirs.

    Raises:
        KzooError: if they write different numbers of tokens.
    """

    def __init__(self, writers: Sequence[Writer]):
        sizes = sorted({writer.vocab_size for writer in writers})
        if len(sizes) > 1:
            raise KzooError(f"These models cannot decide together: they know {sizes} tokens.")
        self._writers = writers
        self.vocab_size = sizes[0]

    def read(self, feeds: Mapping[str, np.ndarray]) -> list[Any]:
        """Return what each one reads; see `Writer`."""
        return [writer.read(feeds) for writer in self._writers]

    def step(self, source: list[Any]) -> AveragedStep:
        """Return the step function of their mean; see `Writer`."""
        return AveragedStep([writer.step(own) for writer, own in zip(self._writers, source, strict=True)])

    def follow(self, source: list[Any], targets: np.ndarray, outputs: Sequence[str]) -> dict[str, np.ndarray]:
        """Return the means of probabilities and of attention; see `Writer`."""
        found = [
            writer.follow(own, targets, outputs) for writer, own in zip(self._writers, source, strict=True)
        ]
        means = {}
        for name in outputs:
            values = [each[name] for each in found]
            means[name] = average(values) if name == "log_probs" else np.mean(values, axis=0)
        return means
