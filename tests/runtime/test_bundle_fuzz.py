"""Bundles that somebody damaged, or made to do harm: refused, or as good as any; nothing else is read or run."""

from __future__ import annotations

import json
import os
import pickle
import random
import sys
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

import kzoo
from kzoo.errors import BundleError, KzooError
from kzoo.runtime import Bundle, Manifest, hash_file
from tests import bundles
from tests.runtime.graphs import add_golden, edit

# Wrong values that are tried on each bundle.
TURNS = 150
FILES = ("manifest.json", "model.onnx", "tokenizer.json", "golden.npz")
INPUTS = {"topic": ["the market", "a goal"], "shade": [np.zeros((8, 8), np.uint8)], "en-de": ["A dog runs."]}
WRONG = (
    None,
    True,
    -1,
    0,
    10**30,
    1e999,
    "",
    "x",
    "../secret",
    "/etc/passwd",
    [],
    [[]],
    {},
    {"": []},
    ["x"] * 3,
)
NAMES = (
    *("..", ".", "", "../secret", "/etc/passwd", "a/b", "a\\b", "C:secret", "~", ".hidden", "-x"),
    *("secret\n", "secret\0", "..%2fsecret", "sécret", "x" * 101),
)
STARTS_PROGRAMS = ("exec", "os.exec", "os.posix_spawn", "os.system", "pickle.find_class", "subprocess.Popen")


class Watch:
    """Notes the files that Python opens, and programs and pickles that are started, while it is asked to."""

    def __init__(self) -> None:
        self.on = False
        self.opened: list[Path] = []
        self.started: list[str] = []
        sys.addaudithook(self._hear)

    def _hear(self, event: str, arguments: tuple[Any, ...]) -> None:
        if not self.on:
            return
        if event == "open" and isinstance(arguments[0], str | bytes | os.PathLike):
            self.opened.append(Path(os.fsdecode(arguments[0])))
        elif event in STARTS_PROGRAMS:
            self.started.append(event)


@pytest.fixture(scope="module")
def watch() -> Watch:
    return Watch()


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A bundle of texts and one of images, with what export recorded."""
    root = tmp_path_factory.mktemp("whole")
    ids = {"input_ids": np.array([[2, 6, 3]]), "attention_mask": np.ones((1, 3), np.int64)}
    pixels = {"pixel_values": np.ones((1, 8, 8, 1), np.float32)}
    source = {"input_ids": np.array([[5, 6]]), "attention_mask": np.ones((1, 2), np.int64)}
    whole = {
        "en-de": add_golden(bundles.write_translator(root / "en-de"), "encoder", source),
        "topic": add_golden(bundles.write_text_classifier(root / "topic"), "model", ids),
        "shade": add_golden(bundles.write_image_classifier(root / "shade"), "model", pixels),
    }
    for name, folder in whole.items():
        use(folder, INPUTS[name])
    return whole


@pytest.fixture
def restored(made: dict[str, Path], tmp_path: Path, watch: Watch) -> Iterator[Callable[[str], Path]]:
    """Give a folder of this name with the whole bundle in it, the same one each time; and watch it being used."""
    whole = {name: {file.name: file.read_bytes() for file in made[name].iterdir()} for name in made}
    (tmp_path / "secret").write_bytes(np.zeros(4096, np.float32).tobytes())

    def restore(name: str = "topic") -> Path:
        folder = tmp_path / name
        folder.mkdir(exist_ok=True)
        for file in folder.iterdir():
            file.unlink()
        for file, content in whole[name].items():
            (folder / file).write_bytes(content)
        return folder

    watch.opened, watch.started = [], []
    yield restore
    inside = [tmp_path / name for name in made]
    code = [
        Path(sys.prefix),
        Path(sys.base_prefix),
        Path(kzoo.__file__).parents[1],
        Path("/proc"),
        Path("/sys"),
    ]
    strange = [path for path in watch.opened if path.is_absolute()]
    strange = [
        path for path in strange if not any(path.resolve().is_relative_to(each) for each in inside + code)
    ]
    assert watch.opened
    assert strange == []
    assert watch.started == []


def use(folder: Path, inputs: list[Any], watch: Watch | None = None) -> str:
    """Open a bundle, run it and verify it; return the message if it is refused."""
    if watch is not None:
        watch.on = True
    try:
        pipeline = kzoo.load(folder, device="cpu", threads=1)
        assert len(pipeline(inputs)) == len(inputs)
        pipeline.verify()
    except KzooError as error:
        return str(error)
    finally:
        if watch is not None:
            watch.on = False
    return ""


def trust(folder: Path) -> None:
    """Let the manifest record a bundle's files as they are now."""
    manifest = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
    files = {name: hash_file(folder / name).model_dump() for name in manifest["files"]}
    edit(folder, files=files)


@pytest.mark.parametrize("name", FILES)
def test_flipped_and_missing_bytes(restored: Callable[..., Path], watch: Watch, name: str) -> None:
    """Refused by the checksums; a manifest, which has none, by what it says, unless that is a bundle still."""
    draw = random.Random(name)
    for turn in range(24):
        folder = restored()
        content = bytearray((folder / name).read_bytes())
        if turn % 3:
            content[draw.randrange(len(content))] ^= 1 << draw.randrange(8)
        else:
            del content[draw.randrange(len(content)) :]
        (folder / name).write_bytes(content)
        message = use(folder, INPUTS["topic"], watch)
        if name != "manifest.json":
            assert name in message and "changed" in message
        elif turn % 3 == 0:
            assert "manifest.json is damaged" in message


@pytest.mark.parametrize("name", ["tokenizer.json", "golden.npz", "model.onnx"])
def test_damage_that_the_checksums_vouch_for(restored: Callable[..., Path], watch: Watch, name: str) -> None:
    """Whoever writes the files writes the checksums too."""
    draw = random.Random(name)
    refused = 0
    for turn in range(24):
        folder = restored()
        content = bytearray((folder / name).read_bytes())
        if turn % 3:
            for _ in range(3):
                content[draw.randrange(len(content))] = draw.randrange(256)
        else:
            del content[draw.randrange(len(content)) :]
        (folder / name).write_bytes(content)
        trust(folder)
        refused += bool(use(folder, INPUTS["topic"], watch))
    assert refused >= 8


def places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Yield the way to every value of some JSON."""
    if path:
        yield path
    children = (
        value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    )
    for key, child in children:
        yield from places(child, (*path, key))


@pytest.mark.parametrize("name", ["topic", "shade", "en-de"])
def test_wrong_types_anywhere(restored: Callable[..., Path], watch: Watch, name: str) -> None:
    folder = restored(name)
    file = folder / "manifest.json"
    whole = file.read_text(encoding="utf-8")
    pairs = [(path, wrong) for path in places(json.loads(whole)) for wrong in WRONG]
    accepted = set()
    for path, wrong in random.Random(0).sample(pairs, TURNS):
        content = json.loads(whole)
        parent = content
        for key in path[:-1]:
            parent = parent[key]
        parent[path[-1]] = wrong
        file.write_text(json.dumps(content), encoding="utf-8")
        if not use(folder, INPUTS[name], watch):
            accepted.add(path[0])
    # What it is called, and what nothing is computed by.
    assert not accepted & {"files", "format_version", "task"}


def test_names_that_lead_elsewhere(restored: Callable[..., Path], watch: Watch) -> None:
    folder = restored()
    whole = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
    secret = hash_file(folder.parent / "secret").model_dump()
    for name in NAMES:
        listed = {**whole["files"], name: secret}
        graph = {**whole["graphs"]["model"], "file": name}
        for changes in (
            {"files": listed},
            {"files": listed, "graphs": {"model": graph}},
            {"files": listed, "text": {**whole["text"], "tokenizer": name}},
        ):
            edit(folder, **{**whole, **changes})
            assert "not a valid manifest" in use(folder, INPUTS["topic"], watch), name


def test_weights_from_elsewhere(restored: Callable[..., Path], watch: Watch) -> None:
    """A graph names the files of its weights by itself."""
    folder = restored()
    model = onnx.load(folder / "model.onnx")
    for name in ("../secret", str(folder.parent / "secret"), "link", "unlisted", "*/_ORT_MEM_ADDR_/*"):
        for put in (keep_in_initializer, keep_in_constant):
            folder = restored()
            (folder / "link").symlink_to(folder.parent / "secret")
            (folder / "unlisted").write_bytes((folder.parent / "secret").read_bytes())
            changed = onnx.ModelProto.FromString(model.SerializeToString())
            put(changed.graph, name)
            (folder / "model.onnx").write_bytes(changed.SerializeToString())
            trust(folder)
            assert f"no size and sha256 of {name}." in use(folder, INPUTS["topic"], watch)
            listed = Manifest.model_validate_json((folder / "manifest.json").read_bytes()).files
            edit(
                folder,
                files={
                    key: value.model_dump() for key, value in {**listed, "link": secret_of(folder)}.items()
                },
            )
            message = use(folder, INPUTS["topic"], watch)
            assert "link is a symbolic link" in message


def secret_of(folder: Path) -> Any:
    return hash_file(folder.parent / "secret")


def external(name: str, shape: list[int]) -> TensorProto:
    tensor = TensorProto(
        name="weights", data_type=TensorProto.FLOAT, dims=shape, data_location=TensorProto.EXTERNAL
    )
    for key, value in (("location", name), ("offset", "0"), ("length", str(4 * int(np.prod(shape))))):
        tensor.external_data.add(key=key, value=value)
    return tensor


def keep_in_initializer(graph: onnx.GraphProto, name: str) -> None:
    weights = next(each for each in graph.initializer if each.name == "weights")
    weights.CopyFrom(external(name, list(weights.dims)))


def keep_in_constant(graph: onnx.GraphProto, name: str) -> None:
    weights = next(each for each in graph.initializer if each.name == "weights")
    node = helper.make_node("Constant", [], ["weights"])
    node.attribute.append(helper.make_attribute("value", external(name, list(weights.dims))))
    graph.initializer.remove(weights)
    graph.node.insert(0, node)


class Harm:
    """What runs when it is unpickled."""

    def __init__(self, path: Path):
        self.path = path

    def __reduce__(self) -> Any:
        return open, (str(self.path), "w")


def test_records_that_would_run(restored: Callable[..., Path], watch: Watch, tmp_path: Path) -> None:
    harm = Harm(tmp_path / "harm")
    for kind in ("array", "file", "named", "huge"):
        folder = restored()
        golden = folder / "golden.npz"
        if kind == "file":
            golden.write_bytes(pickle.dumps(harm))
        elif kind == "array":
            np.savez(golden, **{"case/model/output/logits": np.array([harm], dtype=object)})
        else:
            header = f"{{'descr': '<f4', 'fortran_order': False, 'shape': ({2**60},)}}"
            content = (
                pickle.dumps(harm)
                if kind == "named"
                else b"\x93NUMPY\x01\x00v\x00" + header.ljust(118).encode()
            )
            with zipfile.ZipFile(golden, "w") as archive:
                archive.writestr("case/model/output/logits.npy", content)
                archive.writestr("../../harm.npy", content)
        trust(folder)
        message = use(folder, INPUTS["topic"], watch)
        assert "golden.npz" in message, kind
    assert not (tmp_path / "harm").exists()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["secret", "topic"]


def test_graphs_that_want_a_library(restored: Callable[..., Path], watch: Watch) -> None:
    folder = restored()
    model = onnx.load(folder / "model.onnx")
    model.graph.node[0].domain = "harm"
    model.opset_import.append(helper.make_opsetid("harm", 1))
    (folder / "model.onnx").write_bytes(model.SerializeToString())
    trust(folder)
    assert "cannot load" in use(folder, INPUTS["topic"], watch)


@pytest.mark.parametrize(
    "content",
    [
        b'{"format_version": 2' + b"0" * 5000 + b"}",
        b'{"graphs": ' + b'{"a":' * 50_000,
        b"[" * 10_000 + b"]" * 10_000,
        b'"' + b"x" * 1_000_000 + b'"',
        b'{"name": "\xed\xa0\x80"}',
        b"\xff\xfe" + "{}".encode("utf-16-le"),
        b"null",
    ],
    ids=["digits", "objects", "lists", "text", "surrogate", "utf-16", "null"],
)
def test_manifests_made_to_be_hard_to_read(
    restored: Callable[..., Path], watch: Watch, content: bytes
) -> None:
    folder = restored()
    (folder / "manifest.json").write_bytes(content)
    assert "manifest" in use(folder, INPUTS["topic"], watch)


def test_a_bundle_whose_weights_lie_beside_its_graph_is_used(
    restored: Callable[..., Path], watch: Watch
) -> None:
    folder = restored()
    onnx.save_model(
        onnx.load(folder / "model.onnx"),
        str(folder / "model.onnx"),
        save_as_external_data=True,
        location="model.onnx.data",
        size_threshold=100,
    )
    trust(folder)
    with pytest.raises(BundleError, match=r"no size and sha256 of model\.onnx\.data"):
        Bundle.open(folder)
    manifest = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
    record = hash_file(folder / "model.onnx.data").model_dump()
    edit(folder, files={**manifest["files"], "model.onnx.data": record})
    assert use(folder, INPUTS["topic"], watch) == ""
