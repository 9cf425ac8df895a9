import hashlib
import json

import pytest

from kzoo.errors import BundleError
from kzoo.runtime import Bundle, hash_file
from kzoo.runtime.bundle import MAX_MANIFEST_BYTES
from tests.runtime.graphs import edit


def refused(folder):
    """Open a bundle that must be refused, and return the message."""
    with pytest.raises(BundleError) as caught:
        Bundle.open(folder)
    return str(caught.value)


def test_whole_bundle_opens(bundle):
    opened = Bundle.open(str(bundle))
    assert opened.manifest.task == "classification"
    assert opened.path("model.onnx") == bundle / "model.onnx"


def test_path_of_an_unknown_file(bundle):
    with pytest.raises(BundleError, match=r"Did you mean 'model\.onnx'"):
        Bundle.open(bundle).path("modle.onnx")
    with pytest.raises(BundleError):
        Bundle.open(bundle).path("../topic/model.onnx")


def test_hash_file(tmp_path):
    file = tmp_path / "file"
    file.write_bytes(b"kzoo" * 100_000)
    record = hash_file(file)
    assert record.size == 400_000
    assert record.sha256 == hashlib.sha256(b"kzoo" * 100_000).hexdigest()


@pytest.mark.parametrize("name", ["model.onnx", "tokenizer.json", "golden.npz"])
def test_one_changed_byte(bundle, name):
    content = bytearray((bundle / name).read_bytes())
    content[len(content) // 2] ^= 1
    (bundle / name).write_bytes(content)
    message = refused(bundle)
    assert name in message and "sha256" in message


def test_cut_file(bundle):
    content = (bundle / "model.onnx").read_bytes()
    (bundle / "model.onnx").write_bytes(content[:-1])
    message = refused(bundle)
    assert f"{len(content) - 1:,} bytes" in message and "cut short" in message


def test_missing_file(bundle):
    (bundle / "tokenizer.json").unlink()
    assert "tokenizer.json is missing" in refused(bundle)


def test_missing_folder_file_and_manifest(bundle, tmp_path):
    assert "no bundle folder" in refused(tmp_path / "nowhere")
    assert f"give the bundle's folder, {bundle}" in refused(bundle / "model.onnx")
    assert "has no manifest.json" in refused(tmp_path)


def test_shelf_folder_points_to_its_bundle(bundle, tmp_path):
    shelf = tmp_path / "shelf"
    shelf.mkdir()
    bundle.rename(shelf / "bundle")
    assert f"Did you mean {shelf / 'bundle'}?" in refused(shelf)


@pytest.mark.parametrize("content", [b'{"format_version": 1, ', b"", b"\xff\xfe", b"[" * 100_000])
def test_manifest_that_is_not_json(bundle, content):
    (bundle / "manifest.json").write_bytes(content)
    message = refused(bundle)
    assert "manifest.json is damaged" in message and "export the bundle again" in message


def test_huge_manifest_is_not_read(bundle):
    with (bundle / "manifest.json").open("wb") as file:
        file.truncate(MAX_MANIFEST_BYTES + 1)
    assert "it is no manifest" in refused(bundle)


def test_newer_format_is_told_before_unknown_fields(bundle):
    edit(bundle, format_version=3, something_new={})
    message = refused(bundle)
    assert "newer kzoo" in message and "pip install --upgrade kzoo" in message


def test_an_older_format_is_refused(bundle):
    edit(bundle, format_version=1)
    assert "an older kzoo: its format version is 1, and this one reads 2" in refused(bundle)


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"opset": "many"}, "opset"),
        ({"surprise": 1}, "surprise"),
        ({"format_version": "one"}, "format_version"),
        ({"graphs": {"model": {"file": "../model.onnx", "inputs": [], "outputs": []}}}, "graphs.model.file"),
        ({"files": {"/etc/passwd": {"size": 1, "sha256": "0" * 64}}}, "passwd"),
        ({"files": {"..": {"size": 1, "sha256": "0" * 64}}}, "files"),
    ],
)
def test_invalid_manifest_names_the_field(bundle, changes, named):
    edit(bundle, **changes)
    message = refused(bundle)
    assert "not a valid manifest" in message and named in message


def test_manifest_that_is_no_object(bundle):
    (bundle / "manifest.json").write_text("[1]", encoding="utf-8")
    assert "not a valid manifest" in refused(bundle)


def test_graph_without_hash(bundle):
    files = json.loads((bundle / "manifest.json").read_text(encoding="utf-8"))["files"]
    edit(bundle, files={name: record for name, record in files.items() if name != "model.onnx"})
    assert "no size and sha256 of model.onnx" in refused(bundle)


@pytest.mark.parametrize("name", ["model.onnx", "manifest.json"])
def test_symbolic_links(bundle, tmp_path, name):
    (bundle / name).rename(tmp_path / name)
    (bundle / name).symlink_to(tmp_path / name)
    assert f"{name} is a symbolic link" in refused(bundle)


def test_further_files_are_ignored(bundle):
    (bundle / "notes.onnx").write_bytes(b"not listed, not read")
    assert Bundle.open(bundle).manifest.name == "topic"
