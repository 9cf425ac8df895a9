"""The examples in docstrings do what they say."""

from __future__ import annotations

import doctest
from pathlib import Path

import pytest

from tests.optional import require

ROOT = Path(__file__).parents[1]

# Where the packages lie in the tree, which is not where they are imported from.
PACKAGES = {"kzoo": "kzoo", "export": "kzoo.export", "apps": "kzoo.apps"}


def modules_with_examples() -> list[str]:
    names = []
    for folder, package in PACKAGES.items():
        for file in sorted((ROOT / folder).rglob("*.py")):
            lines = file.read_text(encoding="utf-8").splitlines()
            if any(">>> " in line and "+SKIP" not in line for line in lines):
                parts = file.relative_to(ROOT / folder).with_suffix("").parts
                names.append(".".join([package, *(part for part in parts if part != "__init__")]))
    return names


@pytest.mark.parametrize("name", modules_with_examples())
def test_examples(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    results = doctest.testmod(
        require(name),
        optionflags=doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE | doctest.REPORT_ONLY_FIRST_FAILURE,
        verbose=False,
    )
    assert results.attempted > 0
    assert results.failed == 0, f"{results.failed} example(s) of {name} fail; see the captured output"
