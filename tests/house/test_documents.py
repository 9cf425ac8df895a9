"""What the documents promise is so."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from operator import attrgetter
from pathlib import Path

import gradio as gr
import pytest
from typer.main import get_command

import kzoo
from kzoo.apps import page
from kzoo.cli import app
from kzoo.errors import KzooError
from kzoo.models import bert, registry
from kzoo.models.tasks import TASKS
from kzoo.runtime import Manifest
from tests.house import CHECKOUT

DOCUMENTS = [
    *(CHECKOUT / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md", "models/README.md")),
    *sorted((CHECKOUT / "docs").glob("*.md")),
]
README = (CHECKOUT / "README.md").read_text(encoding="utf-8")
CONTRIBUTING = (CHECKOUT / "CONTRIBUTING.md").read_text(encoding="utf-8")


def blocks(text: str, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)


def run(code: str, cwd: Path) -> str:
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=cwd)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_two_commands():
    """One line each; `.ci/run` takes the second from here."""
    commands = [line for block in blocks(README, "sh") for line in block.splitlines()]
    assert commands == ["pip install -e '.[all]' && kzoo demo", "pip install -e '.[test]' && pytest"]


@pytest.mark.slow
def test_the_ten_lines_run_as_they_stand(tmp_path):
    code = blocks(README, "python")[0]
    assert len([line for line in code.splitlines() if line]) <= 10
    # Seeded, so that what comes out of these few examples is the same each time.
    printed = run(f"import keras\n\nkeras.utils.set_random_seed(0)\n{code}", tmp_path)
    assert re.findall(r"'label': '(\w+)'", printed) == ["cooking", "sport"]


def test_the_commands_are_all_there():
    rows = re.findall(r"^\| `kzoo (\w+)", README, re.MULTILINE)
    assert sorted(rows) == sorted(get_command(app).commands)


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_links_lead_somewhere(document):
    for target in re.findall(r"\]\(([^)#]+)", document.read_text(encoding="utf-8")):
        assert "://" not in target
        assert (document.parent / target).exists(), target


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_what_is_named_exists(document):
    """Paths of the tree, and attributes of kzoo, in backticks."""
    text = document.read_text(encoding="utf-8")
    for name in re.findall(r"`((?:kzoo|export|apps|tests)/[\w./]+?)/?`", text):
        assert (CHECKOUT / name).exists(), name
    for name in sorted(set(re.findall(r"`(kzoo\.[\w.]+)", text))):
        assert attrgetter(name.removeprefix("kzoo."))(kzoo) is not None


def test_every_extra_is_explained():
    extras = tomllib.loads((CHECKOUT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    explained = (CHECKOUT / "docs" / "install.md").read_text(encoding="utf-8")
    for extra in extras["optional-dependencies"]:
        assert f"`{extra}`" in explained, extra


def test_every_field_and_task_of_a_bundle_is_explained():
    explained = (CHECKOUT / "docs" / "bundles.md").read_text(encoding="utf-8")
    fields = explained.split("## manifest.json", 1)[1].split("\n## ", 1)[0]
    assert re.findall(r"^\| `(\w+)`", fields, re.MULTILINE) == list(Manifest.model_fields)
    for task in TASKS:
        assert f"`{task}`" in explained, task


def test_the_model_to_add_can_be_added(monkeypatch):
    monkeypatch.setattr(registry, "_VARIANTS", dict(registry._VARIANTS))
    code, _ = blocks(CONTRIBUTING, "python")
    exec(code, dict(vars(bert)))
    said = int(re.findall(r"([\d,]+) parameters", code)[0].replace(",", ""))
    assert kzoo.models.create_model("bert_micro", task="features").count_params() == said


def test_the_page_to_add_can_be_added():
    class Embedding:
        """Stands for a pipeline."""

        name = "similarity"

    _, code = blocks(CONTRIBUTING, "python")
    module = {"gr": gr, "page": page, "KzooError": KzooError}
    exec(code, module)
    with gr.Blocks() as drawn:
        module["build"]([Embedding()], page.Surroundings())
    assert {"Text", "Vector"} <= {getattr(block, "label", None) for block in drawn.blocks.values()}
