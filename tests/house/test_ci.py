"""What CI runs, and what it does not let pass."""

from __future__ import annotations

import os
import subprocess

import pytest

from tests.house import CHECKOUT
from tests.optional import require

SCRIPT = CHECKOUT / ".ci" / "run"


def test_it_can_be_run():
    assert os.access(SCRIPT, os.X_OK)
    subprocess.run(["bash", "-n", SCRIPT], check=True)


def test_it_takes_the_test_command_from_the_readme():
    (line,) = (line for line in SCRIPT.read_text(encoding="utf-8").splitlines() if line.startswith("tests="))
    done = subprocess.run(
        ["bash", "-c", f'{line}; echo "$tests"'], cwd=CHECKOUT, capture_output=True, text=True, check=True
    )
    assert done.stdout == "pip install -e '.[test]' && pytest\n"


def test_a_missing_package_is_a_failure_there_and_a_skip_elsewhere(monkeypatch):
    monkeypatch.delenv("CI", raising=False)
    with pytest.raises(pytest.skip.Exception, match="needs no_such_package"):
        require("no_such_package")
    monkeypatch.setenv("CI", "true")
    with pytest.raises(pytest.fail.Exception, match="needs no_such_package"):
        require("no_such_package")
