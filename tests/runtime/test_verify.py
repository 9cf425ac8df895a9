"""A bundle's outputs are compared with those recorded at export, on the machine that serves."""

from __future__ import annotations

import json

import numpy as np
import pytest

import kzoo
from kzoo.errors import BundleError
from kzoo.runtime import hash_file
from tests.runtime.graphs import edit, write_copier


def test_verify(bundle):
    assert kzoo.load(bundle, device="cpu").verify() <= 1e-4


def rewrite_golden(folder, change):
    """Change the recorded arrays and their hash, as a graph that computes something else would."""
    with np.load(folder / "golden.npz") as golden:
        arrays = {key: golden[key] for key in golden.files}
    change(arrays)
    np.savez(folder / "golden.npz", **arrays)
    files = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))["files"]
    edit(folder, files=files | {"golden.npz": hash_file(folder / "golden.npz").model_dump()})


def test_verify_names_the_output_that_differs(bundle):
    def change(arrays):
        arrays["first/model/output/logits"][1, 2] += 0.5

    rewrite_golden(bundle, change)
    with pytest.raises(
        BundleError, match=r"case 'first', output 'logits' of graph 'model' differs by 0\.5.*at \(1, 2\)"
    ):
        kzoo.load(bundle).verify()


def test_verify_within_the_tolerance_returns_the_difference(bundle):
    def change(arrays):
        arrays["first/model/output/logits"][1, 2] += 0.01

    rewrite_golden(bundle, change)
    edit(bundle, tolerance=0.02)
    assert kzoo.load(bundle).verify() == pytest.approx(0.01, abs=1e-5)


@pytest.mark.parametrize(
    ("rename", "message"),
    [
        (lambda key: key.replace("logits", "scores"), "output 'scores'.*got nothing"),
        (lambda key: key.replace("/model/", "/decoder/"), "no graph 'decoder'"),
        (lambda key: key.replace("/", "-"), "cannot be read"),
        (lambda key: key.replace("attention_mask", "mask"), "attention_mask"),
        (lambda key: key.replace("/output/", "/input/"), "no outputs to compare"),
    ],
)
def test_verify_of_records_that_do_not_fit(bundle, rename, message):
    def change(arrays):
        for key in list(arrays):
            arrays[rename(key)] = arrays.pop(key)

    rewrite_golden(bundle, change)
    with pytest.raises(BundleError, match=message):
        kzoo.load(bundle).verify()


def test_verify_refuses_other_shapes_and_not_a_number(bundle):
    def cut(arrays):
        arrays["first/model/output/logits"] = arrays["first/model/output/logits"][:, :2]

    rewrite_golden(bundle, cut)
    with pytest.raises(BundleError, match=r"expected shape \(4, 2\), got \(4, 3\)"):
        kzoo.load(bundle).verify()

    def spoil(arrays):
        arrays["first/model/output/logits"] = np.full((4, 3), np.nan, np.float32)

    rewrite_golden(bundle, spoil)
    with pytest.raises(BundleError, match=r"differs by inf.*against nan"):
        kzoo.load(bundle).verify()


def test_verify_unpickles_nothing(bundle):
    def change(arrays):
        arrays["first/model/output/logits"] = np.array([print], dtype=object)

    rewrite_golden(bundle, change)
    with pytest.raises(BundleError, match="allow_pickle"):
        kzoo.load(bundle).verify()


def test_verify_without_golden(tmp_path):
    write_copier(tmp_path / "copier")
    with pytest.raises(BundleError, match=r"no file 'golden\.npz'"):
        kzoo.load(tmp_path / "copier", device="cpu").verify()
