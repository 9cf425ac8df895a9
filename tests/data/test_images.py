import numpy as np
import pytest
from PIL import Image

from kzoo import KzooError
from kzoo.data import digits, read_image_folder, read_npz
from tests.optional import require


def test_the_digits_are_always_split_alike():
    require("sklearn")
    train, test = digits()
    assert train.inputs.shape == (1437, 8, 8, 1)
    assert test.inputs.shape == (360, 8, 8, 1)
    assert train.inputs.dtype == np.uint8
    assert train.inputs.max() == 255
    again, _ = digits()
    assert (again.inputs == train.inputs).all()
    counts = [test.targets.count(str(digit)) for digit in range(10)]
    assert min(counts) >= 34
    assert max(counts) <= 38


@pytest.fixture
def archive(tmp_path):
    def archive(**arrays):
        images = np.zeros((4, 6, 6), np.uint8)
        path = tmp_path / "images.npz"
        np.savez(path, **{"x_train": images, "y_train": np.array([0, 1, 1, 0])} | arrays)
        return path

    return archive


def test_npz(archive):
    parts = read_npz(
        archive(
            x_test=np.zeros((1, 6, 6), np.uint8), y_test=np.array([[1]]), classes=np.array(["shirt", "bag"])
        )
    )
    assert parts.keys() == {"train", "test"}
    assert parts["train"].inputs.shape == (4, 6, 6, 1)
    assert parts["train"].targets == ["shirt", "bag", "bag", "shirt"]
    assert parts["test"].targets == ["bag"]


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"x_train": np.zeros((4, 6, 6))}, "x_train is float64"),
        ({"y_train": np.array([0, 1])}, r"y_train is of shape \(2,\)"),
        ({"classes": np.array(["shirt"])}, "y_train runs from 0 to 1; there are 1 classes"),
        ({"x_test": np.zeros((1, 6, 6), np.uint8)}, "y_test is missing"),
        ({"x_test": np.zeros((1, 6, 6), np.uint8), "y_test": np.array([7])}, r"y_test\[0\] is '7'"),
        ({"y_train": np.array([0, 1, 1, {}], dtype=object)}, "cannot be read"),
    ],
)
def test_bad_npz(archive, arrays, message):
    with pytest.raises(KzooError, match=message):
        read_npz(archive(**arrays))


def test_npz_of_something_else(tmp_path):
    np.savez(tmp_path / "a.npz", weights=np.zeros(3))
    with pytest.raises(KzooError, match="no array x_train; it has weights"):
        read_npz(tmp_path / "a.npz")
    (tmp_path / "b.npz").write_bytes(b"PK\x03\x04 cut short")
    with pytest.raises(KzooError, match=r"b\.npz cannot be read"):
        read_npz(tmp_path / "b.npz")


@pytest.fixture
def folders(tmp_path):
    for name in ("cats/a.png", "cats/deep/b.JPG", "dogs/c.png", "dogs/notes.txt", ".hidden/d.png"):
        path = tmp_path / "images" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.suffix == ".txt":
            path.touch()
        else:
            Image.new("RGB", (5, 4)).save(path)
    return tmp_path / "images"


def test_folders(folders):
    examples = read_image_folder(folders)
    assert [path.name for path in examples.inputs] == ["a.png", "b.JPG", "c.png"]
    assert examples.targets == ["cats", "cats", "dogs"]


def test_bad_folders(folders):
    with pytest.raises(KzooError, match="'dogs' does not occur"):
        read_image_folder(folders, known_labels=["cats"])
    (folders / "birds").mkdir()
    with pytest.raises(KzooError, match="birds has no images"):
        read_image_folder(folders)
    with pytest.raises(KzooError, match="has no folders"):
        read_image_folder(folders / "dogs")
