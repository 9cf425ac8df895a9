"""Measure the service beside a bare ONNX Runtime loop: `python benchmarks/serving.py BUNDLE`.

The bundle is one for embeddings. Clients, each with a connection of its own, ask for one text at a time, of lengths
drawn once; the bare loop runs the same texts, made into tokens before, through the same graph: sorted by length in
batches of 32, and one at a time. Clients, service and loop share the machine's cores, and take turns. With one client
and nobody else, a short text shows what the service adds to the latency of the bare session.
"""

from __future__ import annotations

import argparse
import datetime
import json
import pathlib
import random
import re
import statistics
import time

import numpy as np

import kzoo
from kzoo.bench import Ask, Load, ask_all, started
from kzoo.runtime import Pipeline
from kzoo.runtime.machine import describe_processor

WORDS = ["the", "a", "dog", "cat", "house", "runs", "sleeps", "old", "new", "market", "bank", "team", "goal"]
BATCH = 32


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("bundle", type=pathlib.Path)
    parser.add_argument("--clients", type=int, default=32)
    parser.add_argument("--turns", type=int, default=5)
    parser.add_argument("--texts", type=int, default=1024, help="of a turn")
    parser.add_argument("--longest", type=int, default=64, help="words of a text")
    options = parser.parse_args()
    texts = draw_texts(options.texts, options.longest)
    pipeline = kzoo.load(options.bundle, device="cpu")
    begun = time.perf_counter()
    with started(options.bundle) as (url, process):
        ready = time.perf_counter() - begun
        block = measure(pipeline, url, texts, options.clients, options.turns)
        status = pathlib.Path(f"/proc/{process}/status").read_text()
    memory = int(re.findall(r"VmRSS:\s+(\d+)", status)[0]) / 1024
    size = sum(file.stat().st_size for file in options.bundle.iterdir()) / 2**20
    block += [
        f"| from start to API | {ready:.2f} s | |",
        f"| memory of the service, after all this | {memory:.0f} MiB | bundle: {size:.0f} MiB |",
    ]
    said = [
        f"| {pipeline.name} | | beside the bare loop |",
        "|---|---:|---:|",
        *block,
        "",
        f"{options.clients} clients, {options.texts} texts of 1 to {options.longest} words a turn, medians of "
        f"{options.turns} turns; {datetime.date.today()}, {describe_processor()}, kzoo {kzoo.__version__}.",
    ]
    print("\n".join(said))


def measure(pipeline: Pipeline, url: str, texts: list[str], clients: int, turns: int) -> list[str]:
    """Return the rows of the table."""
    # The loop without and with the making of tokens left out; texts of like length together.
    ordered = sorted(texts, key=len)
    batches = [pipeline.reader.read(ordered[at : at + BATCH], at).feeds for at in range(0, len(texts), BATCH)]
    singles = [pipeline.reader.read([text], 0).feeds for text in texts[: len(texts) // 4]]
    run = pipeline._sessions["model"].run
    load(url, texts, clients)
    rates: dict[str, list[float]] = {"service": [], "batches": [], "singles": []}
    tails: list[float] = []
    for _ in range(turns):
        rates["batches"].append(len(texts) / seconds_of(lambda: [run(feeds) for feeds in batches]))
        rates["singles"].append(len(singles) / seconds_of(lambda: [run(feeds) for feeds in singles]))
        found = load(url, texts, clients)
        rates["service"].append(found.rate)
        tails.append(found.percentile(99))
    short = pipeline.reader.read(["a dog"], 0).feeds
    alone = statistics.median(seconds_of(lambda: run(short)) for _ in range(200))
    idle = load(url, ["a dog"] * 200, 1).percentile(50)
    median = {name: statistics.median(values) for name, values in rates.items()}
    ratios = {
        name: statistics.median(np.divide(rates["service"], rates[name])) for name in ("batches", "singles")
    }
    return [
        f"| texts a second, {clients} clients | {median['service']:.0f} | |",
        f"| the same, bare loop, batches of {BATCH} sorted by length | {median['batches']:.0f} "
        f"| service: {ratios['batches']:.2f} times |",
        f"| the same, bare loop, one at a time | {median['singles']:.0f} | service: {ratios['singles']:.2f} times |",
        f"| 99th percentile of a request, {clients} clients | {1000 * statistics.median(tails):.0f} ms | |",
        f"| one short text, nobody else asking, median | {1000 * idle:.2f} ms "
        f"| bare session: {1000 * alone:.2f} ms |",
    ]


def seconds_of(work) -> float:
    """Return how long something takes."""
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def draw_texts(count: int, longest: int) -> list[str]:
    """Return texts of one to so many words, the same each time."""
    draw = random.Random(0)
    return [" ".join(draw.choices(WORDS, k=draw.randint(1, longest))) for _ in range(count)]


def asks_of(texts: list[str], model: str | None = None) -> list[Ask]:
    """Return a request for each text."""
    bodies = [{"input": text, "model": model, "encoding_format": "base64"} for text in texts]
    return [Ask(json.dumps(body).encode()) for body in bodies]


def load(url: str, texts: list[str], clients: int) -> Load:
    """Have clients ask for all texts, and return what came of it."""
    found = ask_all(url, asks_of(texts), clients)
    if found.refusals:
        raise SystemExit(f"The service refused: {dict(found.refusals)}.")
    return found


if __name__ == "__main__":
    main()
