"""What is installed is what lies in the tree."""

from __future__ import annotations

import email
import tomllib
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

import kzoo
from tests.house import CHECKOUT

# Folder in the checkout, and where it goes.
ROOMS = {"kzoo": "kzoo", "export": "kzoo/export", "apps": "kzoo/apps"}


def source_files() -> Iterator[tuple[Path, str]]:
    """Yield each file of the product with its place in the wheel."""
    for folder, place in ROOMS.items():
        for file in sorted((CHECKOUT / folder).rglob("*")):
            if file.is_file() and "__pycache__" not in file.parts:
                yield file, f"{place}/{file.relative_to(CHECKOUT / folder).as_posix()}"


@pytest.fixture(scope="module")
def project() -> dict:
    return tomllib.loads((CHECKOUT / "pyproject.toml").read_text(encoding="utf-8"))


def test_the_packages_are_those_of_the_tree(project):
    packages = {
        place.rpartition("/")[0].replace("/", ".")
        for _, place in source_files()
        if place.endswith("/__init__.py")
    }
    listed = project["tool"]["setuptools"]["packages"]
    assert sorted(listed) == sorted(packages)


def test_every_folder_with_code_is_a_package():
    for file, _ in source_files():
        if file.suffix == ".py":
            assert (file.parent / "__init__.py").is_file(), f"{file.parent} has no __init__.py"


def test_the_wheel_holds_every_file_and_no_other(wheel):
    with zipfile.ZipFile(wheel) as archive:
        held = {name: archive.read(name) for name in archive.namelist() if ".dist-info/" not in name}
    assert held == {place: file.read_bytes() for file, place in source_files()}


def test_the_wheel_is_typed(wheel):
    """One marker at the top speaks for `kzoo.export` and `kzoo.apps` too."""
    with zipfile.ZipFile(wheel) as archive:
        assert [name for name in archive.namelist() if name.endswith("py.typed")] == ["kzoo/py.typed"]


def test_what_the_wheel_says_of_itself(wheel, project):
    with zipfile.ZipFile(wheel) as archive:
        (name,) = (name for name in archive.namelist() if name.endswith(".dist-info/METADATA"))
        said = email.message_from_bytes(archive.read(name))
        licence = archive.read(name.replace("METADATA", "licenses/LICENSE"))
    assert said["Version"] == kzoo.__version__ == project["project"]["version"]
    assert said["License-Expression"] == "Apache-2.0"
    assert licence == (CHECKOUT / "LICENSE").read_bytes()
    assert set(said.get_all("Provides-Extra")) == {
        *(
            "train",
            "export",
            "serve",
            "client",
            "telemetry",
            "ray",
            "parquet",
            "apps",
            "jax",
            "torch",
            "tune",
            "cuda",
            "cuda-tensorflow",
            "all",
            "test",
        )
    }


def test_the_base_install_brings_no_training_framework(project):
    needed = " ".join(project["project"]["dependencies"])
    for name in ("keras", "tensorflow", "torch", "jax", "gradio", "fastapi", "onnx>", "scikit-learn"):
        assert name not in needed


def test_every_requirement_has_a_floor(project):
    """A ceiling or an exact version needs a reason; there is none so far."""
    extras = project["project"]["optional-dependencies"].values()
    for requirement in [*project["project"]["dependencies"], *(line for extra in extras for line in extra)]:
        constraint = requirement.partition(";")[0]
        if not constraint.startswith("kzoo["):
            assert ">=" in constraint, requirement
        assert not any(sign in constraint for sign in ("<", "==", "~=")), requirement
