"""Images that lie together in one file: archives and tables."""

import io
import os
import tarfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from kzoo import KzooError
from kzoo.data import locate, read_image_archive, read_image_table, read_npz
from kzoo.vision import ImagePreprocessing, preprocess
from tests.optional import require

SETTINGS = ImagePreprocessing(height=4, width=4, mean=[0.0], std=[1.0])


def encoded(value, kind="PNG"):
    file = io.BytesIO()
    Image.new("L", (4, 4), value).save(file, kind)
    return file.getvalue()


@pytest.fixture
def archive(tmp_path):
    def archive(members, name="images.tar.xz"):
        kind = name.rpartition(".")[2]
        with tarfile.open(tmp_path / name, "w" if kind == "tar" else f"w:{kind}") as file:
            for member, content in members.items():
                info = tarfile.TarInfo(member)
                info.size = len(content)
                file.addfile(info, io.BytesIO(content))
        return tmp_path / name

    return archive


@pytest.mark.parametrize("name", ["images.tar", "images.tar.gz", "images.tar.bz2", "images.tar.xz"])
@pytest.mark.parametrize("above", ["", "./", "mine/2024/"])
def test_an_archive_of_parts(archive, name, above):
    members = {
        "train/dog/1.png": encoded(51),
        "test/cat/9.png": encoded(204),
        "train/cat/deep/2.JPG": encoded(102, "JPEG"),
        "train/cat/notes.txt": b"none",
        "train/.hidden/3.png": b"none",
    }
    parts = read_image_archive(
        archive({f"{above}{path}": content for path, content in members.items()}, name)
    )
    assert parts.keys() == {"train", "test"}
    assert parts["train"].targets == ["cat", "dog"]
    assert parts["test"].targets == ["cat"]
    pixels = preprocess(parts["train"].inputs, SETTINGS)
    assert np.allclose(pixels.mean(axis=(1, 2, 3)), [0.4, 0.2], atol=0.01)


def test_an_archive_of_classes_alone(archive):
    examples = read_image_archive(archive({"pets/cat/1.png": encoded(1), "pets/dog/1.png": encoded(2)}))
    assert examples.keys() == {"train"}
    assert examples["train"].targets == ["cat", "dog"]
    vehicles = archive({"train/1.png": encoded(1), "plane/1.png": encoded(2)})
    assert read_image_archive(vehicles)["train"].targets == ["plane", "train"]
    one = read_image_archive(archive({"cat/1.png": encoded(1), "cat/2.png": encoded(1)}))
    assert one["train"].targets == ["cat", "cat"]


@pytest.mark.parametrize(
    ("members", "message"),
    [
        ({"train/a.txt": b""}, r"images\.tar\.xz has no images"),
        ({"1.png": b"."}, r"1\.png lies in no folder of a class"),
        ({"train/cat/1.png": b".", "test/1.png": b"."}, r"test/1\.png lies in no folder of a class"),
        (
            {"train/cat/1.png": b".", "more/cat/1.png": b"."},
            r"more/cat/1\.png lies in none of the folders train",
        ),
        ({"test/cat/1.png": b"."}, "has no folder train; it has test"),
        ({"train/cat/1.png": b".", "test/cats/1.png": b"."}, "test/cats/1.png: the class 'cats' .* 'cat'"),
    ],
)
def test_bad_archives(archive, members, message):
    with pytest.raises(KzooError, match=message):
        read_image_archive(archive(members))


def test_damaged_archives(archive, tmp_path):
    path = archive({"train/cat/1.png": os.urandom(4000), "train/dog/1.png": os.urandom(4000)})
    path.write_bytes(path.read_bytes()[:5000])
    with pytest.raises(KzooError, match=r"images\.tar\.xz cannot be read as a tar archive"):
        read_image_archive(path)
    for content in (b"", b"text, and no archive", b"\x1f\x8b"):
        (tmp_path / "a.tar").write_bytes(content)
        with pytest.raises(KzooError, match=r"a\.tar cannot be read as a tar archive"):
            read_image_archive(tmp_path / "a.tar")


def test_an_archive_that_grows_without_end_is_refused(archive):
    bomb = archive({"train/cat/1.png": encoded(1), "train/notes.txt": bytes(20_000_000)})
    assert bomb.stat().st_size < 10_000
    with pytest.raises(KzooError, match=r"holds more than 0\.00\d+ GiB, which is not kept in memory"):
        read_image_archive(bomb, max_bytes=5_000_000)


def test_an_image_in_an_archive_is_named(archive):
    parts = read_image_archive(archive({"train/cat/1.png": encoded(1), "train/dog/7.png": encoded(2)[:40]}))
    with pytest.raises(KzooError, match=r"Image 1 \(train/dog/7\.png\)"):
        preprocess(parts["train"].inputs, SETTINGS)


@pytest.fixture
def table(tmp_path):
    pyarrow = require("pyarrow")
    from pyarrow import parquet

    def table(**columns):
        parquet.write_table(pyarrow.table(columns), tmp_path / "images.parquet")
        return tmp_path / "images.parquet"

    return table


def test_tables_of_images(table):
    images = [encoded(51), encoded(102)]
    examples = read_image_table(table(img=images, label=[1, 0]), image="img", label="label")
    assert examples.targets == ["1", "0"]
    assert np.allclose(preprocess(examples.inputs, SETTINGS).mean(axis=(1, 2, 3)), [0.2, 0.4])
    structs = [{"bytes": image, "path": None} for image in images]
    path = table(img=structs, label=["1", "0"])
    named = read_image_table(path, image="img", label="label", label_names={"1": "dog", "0": "cat"})
    assert named.targets == ["dog", "cat"]
    assert [bytes(image) for image in named.inputs] == images
    with pytest.raises(KzooError, match=r"Image 0 \(images\.parquet, row 2\) is damaged"):
        damaged = table(img=[images[0], images[1][:50]], label=[1, 0])
        preprocess(read_image_table(damaged, image="img", label="label").inputs[1:], SETTINGS)


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"image": [b"."], "label": [1]}, r"has no column 'img'\. Did you mean 'image'"),
        ({"img": [b".", None], "label": [1, 1]}, "row 2: the column 'img' holds no image"),
        ({"img": [{"path": "a.png"}], "label": [1]}, "row 1: the column 'img' holds no image"),
        ({"img": ["a.png"], "label": [1]}, "row 1: the column 'img' holds no image"),
        ({"img": [b"."], "label": [None]}, "row 1: the label is empty"),
        ({"img": [b".", b"."], "label": ["dog", "dgo"]}, "row 2: the label 'dgo' .* 'dog'"),
        ({"img": [b"." * 2000], "label": ["dog"]}, "which is not kept in memory"),
    ],
)
def test_bad_tables(table, columns, message):
    with pytest.raises(KzooError, match=message):
        read_image_table(
            table(**columns), image="img", label="label", known_labels=["dog", "1"], max_bytes=1000
        )
    path = table(img=[b""], label=[""])
    path.write_bytes(b"no table")
    with pytest.raises(KzooError, match="cannot be read as parquet"):
        read_image_table(path, image="img", label="label")


def real(name):
    if not os.environ.get("KZOO_DATA") or not (Path(os.environ["KZOO_DATA"]) / name).exists():
        pytest.skip(f"needs {name} in $KZOO_DATA")
    return locate(name)


@pytest.mark.slow
def test_real_archives():
    parts = read_image_archive(real("cifar10/cifar10_jpeg.tar.xz"))
    assert {name: len(part) for name, part in parts.items()} == {"train": 50_000, "test": 10_000}
    assert len(set(parts["train"].targets)) == 10
    pixels = preprocess(
        parts["train"].inputs[::50], ImagePreprocessing(height=32, width=32, mean=[0.0], std=[1.0])
    )
    assert np.allclose(pixels.mean(axis=(0, 1, 2)), [0.4913, 0.4821, 0.4465], atol=0.02)
    parts = read_npz(real("fashion_mnist/fashion_mnist.npz"))
    assert parts["train"].inputs.shape == (60_000, 28, 28, 1)
    assert parts["test"].targets.count("Bag") == 1000
