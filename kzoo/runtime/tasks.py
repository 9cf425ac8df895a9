"""Which pipeline runs which task, and the way in: `load`."""

from __future__ import annotations

import functools
import os
from typing import TYPE_CHECKING

from kzoo.errors import BundleError, did_you_mean
from kzoo.runtime.bundle import Bundle
from kzoo.runtime.generation import TextGeneration
from kzoo.runtime.grading import Regression
from kzoo.runtime.lanes import cores
from kzoo.runtime.manifest import EXPLANATION
from kzoo.runtime.pipeline import Pipeline
from kzoo.runtime.prediction import Classification, Embedding, Features, MultiLabel, NextSentence
from kzoo.runtime.session import Device, checked_threads, open_session
from kzoo.runtime.sessions import Sessions
from kzoo.runtime.tokens import MaskFilling, QuestionAnswering, ReplacedTokens, TokenClassification
from kzoo.runtime.translation import Translation

if TYPE_CHECKING:
    import onnxruntime

TASKS: dict[str, type[Pipeline]] = {
    "causal_lm": TextGeneration,
    "classification": Classification,
    "embedding": Embedding,
    "features": Features,
    "image_classification": Classification,
    "mlm": MaskFilling,
    "multilabel": MultiLabel,
    "next_sentence": NextSentence,
    "qa": QuestionAnswering,
    "regression": Regression,
    "replaced_token": ReplacedTokens,
    "seq2seq": Translation,
    "tokens": TokenClassification,
}

# Bytes of the largest file of a bundle whose steps are over in less than a millisecond.
_SMALL = 16 * 2**20


def load(
    path: str | os.PathLike[str],
    device: Device = "auto",
    threads: int | None = None,
    session_options: onnxruntime.SessionOptions | None = None,
) -> Pipeline:
    """Open a bundle, check its files, and make it ready to call.

    Args:
        path: the bundle's folder.
        device: `"cuda"` runs on an NVIDIA GPU or raises; `"auto"` takes the GPU if it starts, else the CPU.
        threads: threads for one operation, or for as many batches at once where a translator is small; all cores
            if None.
        session_options: ONNX Runtime's own, for what this function does not offer; excludes `threads`.

    Returns:
        The pipeline of the bundle's task; its `__call__` says what goes in and what comes out.

    Raises:
        BundleError: if the bundle is missing, damaged, from a newer kzoo, or for an unknown task.
        KzooError: if the device cannot be used.

    Example:
        >>> topic = kzoo.load("bundles/topic")  # doctest: +SKIP
        >>> topic("Shares fell sharply on Monday")  # doctest: +SKIP
        {'label': 'Business', 'score': 0.97}
    """
    bundle = Bundle.open(path)
    task, graphs = bundle.manifest.task, bundle.manifest.graphs
    if task not in TASKS:
        raise BundleError(f"{bundle.folder} is for the unknown task '{task}'.{did_you_mean(task, TASKS)}")
    pipeline = TASKS[task]
    if graphs.keys() - {EXPLANATION} != pipeline.outputs.keys():
        raise BundleError(
            f"{bundle.folder}: task '{task}' needs graphs {', '.join(pipeline.outputs)}; "
            f"the manifest has {', '.join(graphs)}. Export the bundle again."
        )
    in_lanes = pipeline.has_lanes and session_options is None and device != "cuda" and _is_small(bundle)
    openers = {
        role: functools.partial(
            open_session,
            bundle.path(graph.file),
            device,
            1 if in_lanes else threads,
            session_options,
            pipeline.spinning,
        )
        for role, graph in graphs.items()
    }
    opened = pipeline(bundle, Sessions(openers))
    if in_lanes and opened.device == "cpu":
        opened.lanes = cores() if threads is None else checked_threads(threads)
    return opened


def _is_small(bundle: Bundle) -> bool:
    """Return whether one thread makes a token in less time than several, which have to be woken up."""
    return max(record.size for record in bundle.manifest.files.values()) < _SMALL
