"""Finding and opening bundles."""

from __future__ import annotations

from pathlib import Path

import pytest

import kzoo
from kzoo.apps.shelf import find_bundles, open_bundles
from kzoo.errors import KzooError
from tests.bundles import write_image_classifier


def place(folder: Path) -> Path:
    folder.mkdir(parents=True)
    (folder / "manifest.json").write_text("{}")
    return folder


def test_bundles_are_found_on_a_shelf_in_a_folder_and_by_themselves(tmp_path):
    on_shelf = place(tmp_path / "models" / "topic" / "bundle")
    in_folder = place(tmp_path / "bundles" / "mine")
    alone = place(tmp_path / "elsewhere")
    place(tmp_path / "bundles" / ".mine-being-written")
    (tmp_path / "bundles" / "notes").mkdir()
    folders = [tmp_path / "models", tmp_path / "bundles", alone, in_folder]
    assert find_bundles(folders) == [on_shelf, in_folder, alone]


def test_a_shelf_folder_given_by_itself_has_its_bundle_found(tmp_path):
    bundle = place(tmp_path / "topic" / "bundle")
    assert find_bundles([tmp_path / "topic"]) == [bundle]


def test_models_and_bundles_of_the_working_directory_are_the_default(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert find_bundles() == []
    place(tmp_path / "bundles" / "b")
    place(tmp_path / "models" / "a" / "bundle")
    assert find_bundles() == [Path("models/a/bundle"), Path("bundles/b")]


def test_a_folder_that_is_not_there_is_named():
    with pytest.raises(KzooError, match="There is no folder nowhere"):
        find_bundles(["nowhere"])


def test_bundles_that_cannot_be_opened_do_not_stop_the_others(tmp_path):
    good = write_image_classifier(tmp_path / "good", "shade")
    same_name = write_image_classifier(tmp_path / "copy" / "bundle", "shade")
    empty = place(tmp_path / "empty")
    loaded = kzoo.load(write_image_classifier(tmp_path / "other", "other"), device="cpu")
    shelf = open_bundles([empty, good, same_name, loaded, tmp_path / "missing"])
    assert list(shelf.pipelines) == ["shade", "other"]
    assert shelf.pipelines["other"] is loaded
    assert shelf.failures.keys() == {"empty", "copy", "missing"}
    assert "Another bundle is named 'shade' too" in shelf.failures["copy"]
    assert "not a valid manifest" in shelf.failures["empty"]
