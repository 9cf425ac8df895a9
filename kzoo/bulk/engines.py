"""Who answers the texts of a run: this process, or workers on a Ray cluster."""

from __future__ import annotations

import collections
import itertools
import socket
import warnings
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from kzoo.cluster import ray_cluster
from kzoo.errors import BundleError, KzooError
from kzoo.runtime import TruncationWarning, load
from kzoo.runtime.lanes import cores
from kzoo.text import Text

if TYPE_CHECKING:
    from kzoo.runtime import Pipeline
    from kzoo.runtime.session import Device

# What a worker has at hand, so that it need not wait for the next; and what may be done before its turn, so that
# few wait for a slow one.
_AT_HAND = 2
_AHEAD = 4
# How often rows are given to a worker anew whose worker died over them: they may be why.
_TRIES = 3


@dataclass(frozen=True)
class Answer:
    """What came of some texts.

    Attributes:
        results: one a text, in their order.
        truncated: how many were cut to what the model takes.
        said: other warnings.
        error: why there are no results.
    """

    results: Sequence[Any] = ()
    truncated: int = 0
    said: tuple[warnings.WarningMessage, ...] = ()
    error: KzooError | None = None


class Engine(Protocol):
    """Runs a bundle on texts."""

    def answers(
        self, pipeline: Pipeline, options: Mapping[str, Any], asked: Iterator[list[Text]]
    ) -> Generator[Answer, None, None]:
        """Yield an answer to each list of texts, in order, reading no more of them ahead than it needs."""
        ...


class LocalEngine:
    """Runs the bundle in this process, on all its cores."""

    def answers(
        self, pipeline: Pipeline, options: Mapping[str, Any], asked: Iterator[list[Text]]
    ) -> Generator[Answer, None, None]:
        """Yield an answer to each list of texts, when it is asked for."""
        for texts in asked:
            yield answer(pipeline, options, texts)


@dataclass(frozen=True)
class RayEngine:
    """Runs the bundle in workers on a Ray cluster; one that dies is replaced, and its texts are asked again.

    The bundle must lie at the same path on each machine; what is read and written goes through this process.

    Attributes:
        address: of the cluster, as `kzoo.cluster.ray_cluster` takes it; without one it is started on this machine.
        workers: how many; by default as many as the cluster has cores for, or GPUs.
        threads: of each.
    """

    address: str | None = None
    workers: int | None = None
    threads: int = 1

    def __post_init__(self) -> None:
        if self.threads < 1 or (self.workers is not None and self.workers < 1):
            raise KzooError(f"workers is {self.workers} and threads {self.threads}; both must be at least 1.")

    def answers(
        self, pipeline: Pipeline, options: Mapping[str, Any], asked: Iterator[list[Text]]
    ) -> Generator[Answer, None, None]:
        """Yield an answer to each list of texts; the cluster is there as long as this is iterated over."""
        first = next(asked, None)
        if first is None:
            return
        cpus = self.workers * self.threads if self.workers else cores()
        with ray_cluster(self.address, cpus) as ray:
            resource = "GPU" if pipeline.device == "cuda" else "CPU"
            each = 1 if resource == "GPU" else self.threads
            there = int(ray.cluster_resources().get(resource, 0)) // each
            count = min(self.workers or there, there)
            if count < 1:
                raise KzooError(
                    f"The cluster has no room for a worker, which takes {each} {resource}: give fewer threads."
                )
            worker = ray.remote(Worker).options(
                num_cpus=self.threads,
                num_gpus=1 if resource == "GPU" else 0,
                max_restarts=-1,
                max_task_retries=_TRIES,
            )
            settings = (str(pipeline.folder), pipeline.checksum, pipeline.device, self.threads, dict(options))
            workers = [worker.remote(*settings) for _ in range(count)]
            yield from _in_order(ray, workers, itertools.chain([first], asked))


class Worker:
    """Answers texts in a process of its own; the bundle is opened when first asked."""

    def __init__(
        self, folder: str, checksum: str, device: Device, threads: int, options: Mapping[str, Any]
    ) -> None:
        self._folder, self._checksum = folder, checksum
        self._device, self._threads = device, threads
        self._options = options
        self._pipeline: Pipeline | None = None

    def answer(self, texts: list[Text]) -> Answer:
        """Return what the bundle gives."""
        try:
            if self._pipeline is None:
                self._pipeline = self._open()
            return answer(self._pipeline, self._options, texts)
        except KzooError as error:
            return Answer(error=error)

    def _open(self) -> Pipeline:
        pipeline = load(self._folder, self._device, self._threads)
        if pipeline.checksum != self._checksum:
            raise BundleError(
                f"{self._folder} on {socket.gethostname()} is another bundle than where the run was started: copy it "
                "there."
            )
        return pipeline


def answer(pipeline: Pipeline, options: Mapping[str, Any], texts: list[Text]) -> Answer:
    """Run a bundle on texts."""
    if not texts:
        return Answer()
    call: Callable[..., Sequence[Any]] = pipeline  # each task has options of its own
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", TruncationWarning)
        try:
            results = call(texts, **options)
        except KzooError as error:
            return Answer(error=error)
    cuts = [each.message.places for each in caught if isinstance(each.message, TruncationWarning)]
    said = tuple(each for each in caught if not isinstance(each.message, TruncationWarning))
    return Answer(results, sum(map(len, cuts)), said)


def _in_order(ray: Any, workers: list[Any], asked: Iterator[list[Text]]) -> Iterator[Answer]:
    """Yield answers in the order of the texts, whichever worker gives them and whenever."""
    free = collections.deque(worker for _ in range(_AT_HAND) for worker in workers)
    busy: dict[Any, Any] = {}
    order: collections.deque[Any] = collections.deque()
    left = True
    while True:
        while left and free and len(order) < _AHEAD * len(workers):
            texts = next(asked, None)
            if texts is None:
                left = False
                break
            order.append(free[0].answer.remote(texts))
            busy[order[-1]] = free.popleft()
        while order and order[0] not in busy:
            yield _taken(ray, order.popleft())
        if order:
            done, _ = ray.wait([*busy])
            free.extend(busy.pop(each) for each in done)
        elif not left:
            return


def _taken(ray: Any, found: Any) -> Answer:
    try:
        return ray.get(found)
    except ray.exceptions.RayActorError as error:
        return Answer(
            error=KzooError(
                f"Workers died over these rows {_TRIES + 1} times; they may lack memory. Give fewer workers. "
                f"{str(error).strip().splitlines()[0]}"
            )
        )
