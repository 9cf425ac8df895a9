"""How tests run the command `kzoo`, and what a mistake looks like."""

from __future__ import annotations

from typer.testing import CliRunner, Result

from kzoo.cli import app


def kzoo_command(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments], prog_name="kzoo")


def assert_mistake(result: Result, *words: str) -> None:
    assert result.exit_code == 1
    assert result.stdout == ""
    assert result.stderr.startswith("error: ")
    assert "Traceback" not in result.stderr
    for word in words:
        assert word in result.stderr
