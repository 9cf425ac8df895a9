"""The tables that bert-as-service published, measured again on a running service."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, get_args

from kzoo.bench.load import Load, ask_all
from kzoo.bench.service import EmbeddingService, started
from kzoo.errors import KzooError

Table = Literal["length", "batch", "clients", "max-batch"]
TABLES: tuple[Table, ...] = get_args(Table)

# Sentences a second of BERT-base on one Tesla M40, from the README of bert-serving-server 1.10.0; by `max_seq_len`,
# `client_batch_size`, `num_client` (of each client there) and `max_batch_size`.
PUBLISHED: dict[Table, dict[int, int]] = {
    "length": {20: 903, 40: 473, 80: 231, 160: 119, 320: 54},
    "batch": dict(
        zip(
            (1, 4, 8, 16, 64, 256, 512, 1024, 2048, 4096),
            (75, 206, 274, 332, 365, 382, 432, 459, 473, 481),
            strict=True,
        )
    ),
    "clients": {1: 473, 2: 261, 4: 133, 8: 67, 16: 34, 32: 17},
    "max-batch": {32: 450, 64: 459, 128: 473, 256: 473, 512: 464},
}
# What a table does not vary; there one client asked, and the server ran 256 sentences together at most.
_LENGTH = 40
_BATCH = 2048

_TRIED = 8  # sentences that say how fast the service is about
_MOST_ITEMS = max(PUBLISHED["batch"])


@dataclass(frozen=True)
class Row:
    """One row of a table.

    Attributes:
        table: which.
        value: of what the table varies.
        published: bert-as-service's sentences a second; in the table of clients those of each.
        length: tokens of a sentence, special ones included.
        batch: sentences of a request.
        clients: how many asked at once.
        requests: how many were answered.
        rate: sentences a second, of all clients together; None where none was answered.
        p50: milliseconds in which half of the requests were answered; likewise.
        p95: the same of 95 in a hundred.
        p99: the same of 99 in a hundred.
        problem: why there are no figures, or what some requests got instead of an answer.
    """

    table: Table
    value: int
    published: int
    length: int
    batch: int
    clients: int
    requests: int = 0
    rate: float | None = None
    p50: float | None = None
    p95: float | None = None
    p99: float | None = None
    problem: str | None = None


def measure(
    url: str | None = None,
    bundle: Path | None = None,
    *,
    tables: Sequence[Table] = TABLES,
    model: str | None = None,
    seconds: float = 5.0,
    api_key: str | None = None,
    begin: Callable[[EmbeddingService], None] = lambda service: None,
    progress: Callable[[Row], None] = lambda row: None,
) -> list[Row]:
    """Measure tables, on a service that runs or on one that is started for it.

    A request has as many sentences as it had there, but no more than the service takes and answers in good time. What
    cannot be measured has a row that says why.

    Args:
        url: address of a running service.
        bundle: folder of a bundle to start one with; needed for the table `max-batch`.
        tables: which to measure.
        model: name of the model for embeddings; may be left out where there is one.
        seconds: how long a row is measured, and about the longest that a request may take.
        api_key: the service's key, if it has one.
        begin: called with each service before it is measured.
        progress: called with each row once it is measured.

    Raises:
        KzooError: there is no service, no such model, or nothing to measure.
    """
    if (url is None) == (bundle is None):
        raise KzooError("Give either the address of a service or a bundle to start one with.")
    if not seconds > 0 or seconds == math.inf:
        raise KzooError(f"seconds is {seconds}; give some above 0 that come to an end.")
    rows = []
    for row in _rows(url, bundle, tables, model, seconds, api_key, begin):
        progress(row)
        rows.append(row)
    return rows


def _rows(
    url: str | None,
    bundle: Path | None,
    tables: Sequence[Table],
    model: str | None,
    seconds: float,
    api_key: str | None,
    begin: Callable[[EmbeddingService], None],
) -> Iterator[Row]:
    flags = [
        *("--max-items", _MOST_ITEMS, "--max-queue", _MOST_ITEMS * max(PUBLISHED["clients"])),
        *("--deadline", max(30.0, 6 * seconds)),
    ]

    def measured(address: str, tables: Sequence[Table], values: Sequence[int] | None = None) -> Iterator[Row]:
        with closing(EmbeddingService(address, model, api_key)) as service:
            begin(service)
            bench = _Bench(service, seconds)
            for table in tables:
                for value in values or PUBLISHED[table]:
                    yield bench.row(table, value)

    plain = [table for table in TABLES if table in tables and table != "max-batch"]
    if bundle is None:
        if plain:
            assert url is not None
            yield from measured(url, plain)
        if "max-batch" in tables:
            if not plain:
                raise KzooError(
                    "How much runs together is a flag of the service: give --bundle, and no --url."
                )
            why = "a flag of the service: give --bundle to have it started with each"
            for value, published in PUBLISHED["max-batch"].items():
                yield Row("max-batch", value, published, _LENGTH, 0, 1, problem=why)
        return
    if plain:
        with started(bundle, flags, api_key) as service:
            yield from measured(service.url, plain)
    for value in PUBLISHED["max-batch"] if "max-batch" in tables else ():
        together = ["--batch-items", value, "--batch-tokens", value * _LENGTH]
        with started(bundle, [*flags, *together], api_key) as service:
            yield from measured(service.url, ["max-batch"], [value])


class _Bench:
    """Measures rows on one service."""

    def __init__(self, service: EmbeddingService, seconds: float):
        self._service = service
        self._seconds = seconds
        self._rates: dict[int, float] = {}

    def row(self, table: Table, value: int) -> Row:
        published = PUBLISHED[table][value]
        length = value if table == "length" else _LENGTH
        clients = value if table == "clients" else 1
        if length > self._service.max_length:
            why = f"the model reads {self._service.max_length} tokens at most"
            return Row(table, value, published, length, 0, clients, problem=why)
        # All rows of a table with the same batch, but where that is what it varies.
        most_clients = max(PUBLISHED["clients"]) if table == "clients" else 1
        batch = value if table == "batch" else self._fitting(length, most_clients)
        problem = self._too_much(table, value, length, batch)
        if problem is not None:
            return Row(table, value, published, length, batch, clients, problem=problem)
        service = self._service
        load = ask_all(
            service.url,
            itertools.cycle(service.asks(length, batch)),
            clients,
            seconds=self._seconds,
            api_key=service.api_key,
            timeout=60 + 10 * self._seconds,
        )
        return _filled(Row(table, value, published, length, batch, clients), load)

    def _rate(self, length: int) -> float:
        """Return about how many sentences of a length are answered in a second."""
        if length not in self._rates:
            count = int(min(_TRIED, self._most_items))
            self._service.try_out(length, count)  # the first one is slow
            self._rates[length] = count / self._service.try_out(length, count)
        return self._rates[length]

    def _fitting(self, length: int, clients: int) -> int:
        """Return the published batch, or the largest power of two that is taken and answered in good time."""
        waiting = self._service.limits.get("max_queue", math.inf) / clients
        most = min(self._most_items, waiting, self._rate(length) * self._longest / clients, _BATCH)
        return 2 ** max(0, math.floor(math.log2(max(1.0, most))))

    def _too_much(self, table: Table, value: int, length: int, batch: int) -> str | None:
        if batch > self._most_items:
            return f"the service takes {self._most_items:.0f} sentences a request: kzoo serve --max-items {batch}"
        if table == "max-batch" and batch < value:
            return f"a request of {value} sentences would take too long: give more --seconds"
        needed = batch / self._rate(length)
        if table == "batch" and batch > 1 and needed > self._longest:
            flag = (
                "more --seconds" if self._seconds <= self._deadline / 2 else "the service a longer --deadline"
            )
            return f"a request would take about {needed:.0f} s: give {flag}"
        return None

    @property
    def _most_items(self) -> float:
        return self._service.limits.get("max_items", math.inf)

    @property
    def _deadline(self) -> float:
        return self._service.limits.get("deadline", math.inf)

    @property
    def _longest(self) -> float:
        """The seconds that a request may take."""
        return min(self._seconds, self._deadline / 2)


def _filled(row: Row, load: Load) -> Row:
    """Return a row with its figures."""
    refusals = ", ".join(f"{count} requests: {what}" for what, count in load.refusals.most_common())
    if not load.latencies:
        return replace(row, problem=refusals or "no request was answered")
    p50, p95, p99 = (round(1000 * load.percentile(percent), 2) for percent in (50, 95, 99))
    return replace(
        row,
        requests=len(load.latencies),
        rate=round(load.rate, 2),
        p50=p50,
        p95=p95,
        p99=p99,
        problem=refusals or None,
    )
