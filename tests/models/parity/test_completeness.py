"""No architecture, and no kind of checkpoint, without a comparison to a reference."""

from __future__ import annotations

from pathlib import Path

import pytest

from kzoo.weights import FAMILIES as TABLES
from tests.models.tiny import FAMILIES

FOLDER = Path(__file__).parent


@pytest.mark.parametrize("family", FAMILIES)
def test_every_architecture_is_compared(family):
    assert (FOLDER / f"test_{family.lower()}.py").is_file()


@pytest.mark.parametrize("model_type", TABLES)
def test_every_table_is_read_there_and_back(model_type):
    table = TABLES[model_type]
    test = (FOLDER / f"test_{table.backbone.lower()}.py").read_text(encoding="utf-8")
    # `check` loads what the original library wrote, compares, writes it again, and compares the tensors.
    assert "check(" in test
    assert table.architecture.removesuffix("Model") in test


def test_every_table_has_an_architecture():
    assert {table.backbone for table in TABLES.values()} <= set(FAMILIES)
