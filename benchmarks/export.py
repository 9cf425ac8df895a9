"""Measure the exporter against Keras' own and Optimum: `python benchmarks/export.py --peers-python PYTHON`.

Seconds, size and nodes of BERT-base with `last_hidden_state` alone, milliseconds of BERT-base and ViT-B/16 on the
CPU, and int8 against float32, all with random weights. PYTHON is that of an environment with the peers, which
`benchmarks/peers/export_with_optimum.py` says how to make. Each export has a process of its own; then all graphs of
a model are run by one ONNX Runtime, in turn, in an order drawn anew for each turn. Ratios are medians over turns.
Short runs, which waver, get more turns. `--with-keras` adds Keras' own export, which takes minutes; `--write` puts
the table into the README.
"""

from __future__ import annotations

import argparse
import datetime
import gc
import json
import multiprocessing
import os
import pathlib
import platform
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from importlib.metadata import version
from typing import Any

import numpy as np
import onnx
import onnxruntime
from readme import replace_block

from kzoo.errors import KzooError

PEERS = pathlib.Path(__file__).parent / "peers" / "export_with_optimum.py"
PACKAGES = ("kzoo", "keras", "tensorflow", "tf2onnx", "onnx", "onnxruntime-gpu", "onnxruntime")
VARIANTS = {"bert": "bert_base", "vit": "vit_base_patch16_224"}
RAW, OPTIMIZED = "Optimum", "Optimum + optimizer"
ANYWHERE, ON_CPUS = "kzoo", "kzoo, target='cpu'"

# A run of so many milliseconds tells enough in a turn.
LONG = 400

Arrays = dict[str, np.ndarray]
Times = dict[str, list[float]]
Row = tuple[str, str, str, str, str]


def build(kind: str) -> Any:
    """Return a built Keras model, with the same random weights each time, that gives `last_hidden_state` alone."""
    import keras

    import kzoo

    keras.utils.set_random_seed(0)
    backbone = kzoo.models.create_model(VARIANTS[kind], task="features").backbone
    inputs = {
        name: keras.Input(
            [None if isinstance(size, str) else size for size in spec.shape[1:]], None, spec.dtype, name=name
        )
        for name, spec in backbone.signature().items()
    }
    return keras.Model(inputs, {"last_hidden_state": backbone(inputs)["last_hidden_state"]})


def export_with_kzoo(kind: str, path: str, target: str = "any", dtype: str = "float32") -> dict[str, float]:
    """Write and verify a graph; return the seconds that it took and the bytes of the weights that it needs."""
    from kzoo.export import to_onnx

    model = build(kind)
    started = time.perf_counter()
    to_onnx(model, path, target=target, dtype=dtype)
    seconds = time.perf_counter() - started
    unused = [layer for layer in model._flatten_layers() if layer.name == "pooler"]
    parameters = model.count_params() - sum(layer.count_params() for layer in unused)
    return {"seconds": seconds, "weight_bytes": 4 * parameters}


def export_with_keras(path: str) -> float:
    """Write BERT-base with Keras' own export; return the seconds that it took."""
    model = build("bert")
    model(BATCHES["bert"]["(1, 16)"])  # Keras exports no model that was never called
    started = time.perf_counter()
    model.export(path, format="onnx", verbose=False)
    return time.perf_counter() - started


def apart(function: Callable[..., Any], *arguments: Any) -> Any:
    """Call a function in a fresh process."""
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        return pool.submit(function, *arguments).result()


def export_with_optimum(python: str, kind: str, folder: pathlib.Path) -> dict[str, Any]:
    """Write Optimum's two graphs of a model; return what their script says of it."""
    result = subprocess.run(
        [python, str(PEERS), kind, str(folder)],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": ""},
    )
    if result.returncode:
        raise SystemExit(f"The peers' export of {kind} failed:\n{result.stderr[-2000:]}")
    return json.loads(result.stdout.splitlines()[-1])


def count_nodes(path: pathlib.Path) -> int:
    """Return how many nodes a graph has, those within functions and branches not counted."""
    return len(onnx.load(path, load_external_data=False).graph.node)


def open_graph(path: pathlib.Path, threads: int) -> onnxruntime.InferenceSession:
    """Open a graph on the CPU, all else as ONNX Runtime has it by default."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 4
    return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


def fate(path: pathlib.Path) -> str:
    """Return what else is to be said of a file that ONNX Runtime does not open."""
    try:
        open_graph(path, 1)
    except Exception:  # ONNX Runtime has a class for each kind of refusal, with no common base but this
        return ", a file that ONNX Runtime refuses"
    return ""


def texts(batch: int, length: int, padded: bool) -> Arrays:
    """Return a batch of random tokens; where padded, lengths rise evenly from nearly none to nearly all."""
    ids = np.random.default_rng(0).integers(1000, 30_000, (batch, length))
    lengths = length * (np.arange(batch) + 0.5) / batch if padded else np.full(batch, length)
    mask = (np.arange(length) < lengths[:, None]).astype("int64")
    return {"input_ids": ids * mask, "attention_mask": mask, "token_type_ids": np.zeros_like(ids)}


def images(batch: int) -> Arrays:
    """Return a batch of noise, channels last."""
    pixels = np.random.default_rng(0).standard_normal((batch, 224, 224, 3)).astype("float32")
    return {"pixel_values": pixels}


BATCHES: dict[str, dict[str, Arrays]] = {
    "bert": {
        "(1, 16)": texts(1, 16, False),
        "(1, 128)": texts(1, 128, False),
        "(8, 128)": texts(8, 128, False),
        "(8, 128), half padded": texts(8, 128, True),
    },
    "vit": {"batch 1": images(1), "batch 8": images(8)},
}


def feed(session: onnxruntime.InferenceSession, batch: Arrays) -> Arrays:
    """Return what a graph takes of a batch, channels where it wants them."""
    arrays = {}
    for value in session.get_inputs():
        array = batch[value.name]
        if value.name == "pixel_values" and value.shape[-1] != 3:
            array = np.ascontiguousarray(array.transpose(0, 3, 1, 2))
        arrays[value.name] = array
    return arrays


def measure(sessions: dict[str, onnxruntime.InferenceSession], batch: Arrays, turns: int) -> Times:
    """Return the milliseconds of each graph in each turn."""
    feeds = {name: feed(session, batch) for name, session in sessions.items()}
    rng = np.random.default_rng(0)

    def turn() -> dict[str, float]:
        spent = {}
        for name in rng.permutation(list(sessions)):
            started = time.perf_counter()
            sessions[name].run(None, feeds[name])
            spent[name] = 1e3 * (time.perf_counter() - started)
        return spent

    turn()
    wanted = turns * max(1, min(8, round(LONG / max(turn().values()))))
    found = [turn() for _ in range(wanted)]
    return {name: [spent[name] for spent in found] for name in sessions}


def ratio(times: Times, ours: str, peer: str) -> float:
    """Return the median of the ratios of two graphs within a turn."""
    return statistics.median(mine / theirs for mine, theirs in zip(times[ours], times[peer], strict=True))


def latency_row(what: str, ours: str, times: Times) -> Row:
    """Compare one of ours with the peer whose median is least."""
    medians = {name: statistics.median(values) for name, values in times.items()}
    peer = min((RAW, OPTIMIZED), key=medians.__getitem__)
    return (
        f"latency, {what}{', for CPUs' if ours == ON_CPUS else ''}",
        f"{medians[ours]:.0f} ms",
        f"{medians[peer]:.0f} ms, {peer}",
        f"{ratio(times, ours, peer):.2f}",
        "at most 1.03",
    )


def latency_rows(model: str, times: dict[str, Times]) -> list[Row]:
    """Compare both of our graphs for each shape."""
    return [
        latency_row(f"{model}{shape}", ours, found)
        for shape, found in times.items()
        for ours in (ANYWHERE, ON_CPUS)
    ]


def int8_rows(times: dict[str, Times], cosine: float) -> list[Row]:
    """Compare int8 with float32, in time and in what comes out."""
    rows = []
    for shape, bar in (("(1, 128)", 0.5), ("(8, 128)", 0.4)):
        medians = {name: statistics.median(values) for name, values in times[shape].items()}
        rows.append(
            (
                f"int8, BERT-base {shape}",
                f"{medians['int8']:.0f} ms",
                f"{medians[ON_CPUS]:.0f} ms, own float32",
                f"{ratio(times[shape], 'int8', ON_CPUS):.2f}",
                f"at most {bar}",
            )
        )
    return [*rows, ("int8, least cosine of embeddings", "", "own float32", f"{cosine:.4f}", "at least 0.99")]


def embeddings(session: onnxruntime.InferenceSession, batch: Arrays) -> np.ndarray:
    """Return the mean state of each text's tokens (batch, hidden_dim), of length 1."""
    states = session.run(["last_hidden_state"], feed(session, batch))[0]
    means = (states * batch["attention_mask"][:, :, None]).sum(axis=1)
    return means / np.linalg.norm(means, axis=1, keepdims=True)


def export_rows(
    folder: pathlib.Path, ours: dict[str, float], peer: dict[str, Any], keras: float | None
) -> list[Row]:
    """Compare time, size and nodes of BERT-base's exports."""
    seconds = ours["seconds"]
    theirs = peer["export_seconds"]
    size, weights = (folder / "bert.onnx").stat().st_size, ours["weight_bytes"]
    nodes, optimized = count_nodes(folder / "bert.onnx"), count_nodes(folder / "bert_o2.onnx")
    rows = [
        (
            "export of BERT-base",
            f"{seconds:.1f} s",
            f"{theirs:.1f} s, Optimum",
            f"{seconds / theirs:.2f}",
            "at most 1",
        )
    ]
    if keras is not None:
        rows.append(
            (
                "export of BERT-base",
                f"{seconds:.1f} s",
                f"{keras:.1f} s, Keras{fate(folder / 'keras.onnx')}",
                f"{seconds / keras:.2f}",
                "at most 0.1",
            )
        )
    rows.append(
        (
            "file of BERT-base",
            f"{size / 1e6:.1f} MB",
            f"{weights / 1e6:.1f} MB, weights alone",
            f"{size / weights:.4f}",
            "at most 1.01",
        )
    )
    rows.append(
        (
            "nodes of BERT-base",
            str(nodes),
            f"{optimized}, {OPTIMIZED}",
            f"{nodes / optimized:.2f}",
            "at most 1",
        )
    )
    return rows


def export_int8(path: pathlib.Path) -> str | None:
    """Write BERT-base in int8; return why that cannot be, or None."""
    try:
        apart(export_with_kzoo, "bert", str(path), "cpu", "int8")
    except KzooError as error:
        return str(error)
    return None


class Table:
    """The table's lines, printed as they come."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.say("| what | kzoo | peer | ratio | bar |\n|---|---:|---|---:|---|")

    def say(self, line: str) -> None:
        """Add a line."""
        self.lines.append(line)
        print(line, flush=True)

    def add(self, rows: list[Row]) -> None:
        """Add rows."""
        for row in rows:
            self.say(f"| {' | '.join(row)} |")


def latencies(
    kind: str, folder: pathlib.Path, threads: int, turns: int, int8: bool
) -> tuple[dict[str, Times], float | None]:
    """Return the times of a model's graphs by shape, and the least cosine of int8's embeddings, where there are."""
    files = {
        ANYWHERE: f"{kind}.onnx",
        ON_CPUS: f"{kind}_cpu.onnx",
        RAW: f"{kind}_raw.onnx",
        OPTIMIZED: f"{kind}_o2.onnx",
    }
    if int8:
        files["int8"] = f"{kind}_int8.onnx"
    sessions = {name: open_graph(folder / file, threads) for name, file in files.items()}
    times = {shape: measure(sessions, batch, turns) for shape, batch in BATCHES[kind].items()}
    if not int8:
        return times, None
    batch = BATCHES[kind]["(8, 128), half padded"]
    vectors = [embeddings(sessions[name], batch) for name in (ON_CPUS, "int8")]
    return times, float((vectors[0] * vectors[1]).sum(axis=1).min())


def footnote(threads: int, turns: int, peers: dict[str, str]) -> str:
    """Return what the figures were measured with."""
    installed = []
    for name in PACKAGES:
        try:
            installed.append(f"{name} {version(name)}")
        except ModuleNotFoundError:
            continue
    return (
        f"On {datetime.date.today()}, {processor()}, {threads} threads, {turns} turns at least; "
        f"{', '.join(installed)}; "
        f"peers: {', '.join(f'{name} {number}' for name, number in peers.items())}."
    )


def processor() -> str:
    """Return the processor's name, and which of the instructions that int8 gains from it has."""
    try:
        info = pathlib.Path("/proc/cpuinfo").read_text(encoding="utf-8")
    except OSError:
        return platform.processor() or platform.machine()
    fields = dict(line.split(":", 1) for line in info.split("\n\n")[0].splitlines() if ":" in line)
    fields = {key.strip(): value.strip() for key, value in fields.items()}
    flags = fields.get("flags", "").split()
    found = [title for flag, title in (("avx512_vnni", "VNNI"), ("amx_int8", "AMX")) if flag in flags]
    return f"{fields.get('model name', platform.machine())} ({', '.join(found) or 'neither VNNI nor AMX'})"


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--peers-python", required=True, help="the python of the peers' environment")
    parser.add_argument("--with-keras", action="store_true", help="time Keras' own export too")
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1, help="threads of ONNX Runtime")
    parser.add_argument("--turns", type=int, default=21, help="how often each graph is timed for each shape")
    parser.add_argument("--write", action="store_true", help="put the table into the README")
    options = parser.parse_args()
    table = Table()
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        peer = export_with_optimum(options.peers_python, "bert", folder)
        ours = apart(export_with_kzoo, "bert", str(folder / "bert.onnx"))
        keras = apart(export_with_keras, str(folder / "keras.onnx")) if options.with_keras else None
        table.add(export_rows(folder, ours, peer, keras))
        apart(export_with_kzoo, "bert", str(folder / "bert_cpu.onnx"), "cpu")
        refused = export_int8(folder / "bert_int8.onnx")
        times, cosine = latencies("bert", folder, options.threads, options.turns, refused is None)
        table.add(latency_rows("BERT-base ", times))
        if cosine is not None:
            table.add(int8_rows(times, cosine))
        else:
            table.add([("int8, BERT-base", f"not measured: {refused}", "", "", "")])
        gc.collect()
        export_with_optimum(options.peers_python, "vit", folder)
        apart(export_with_kzoo, "vit", str(folder / "vit.onnx"))
        apart(export_with_kzoo, "vit", str(folder / "vit_cpu.onnx"), "cpu")
        times, _ = latencies("vit", folder, options.threads, options.turns, int8=False)
        table.add(latency_rows("ViT-B/16, ", times))
    table.add([("float16, BERT-base (32, 128) on a GPU", "not measured: none at hand", "", "", "at most 1")])
    table.say(f"\n{footnote(options.threads, options.turns, peer['versions'])}")
    if options.write:
        replace_block("export", "\n".join(table.lines))


if __name__ == "__main__":
    main()
