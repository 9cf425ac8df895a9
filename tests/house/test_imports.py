"""Which room may know which, and what an import costs."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests import bundles
from tests.house import CHECKOUT

FRAMEWORKS = ("keras", "tensorflow", "torch", "jax", "gradio")
SECONDS = 0.3


def check_contracts(tree: Path, cache: Path) -> subprocess.CompletedProcess[str]:
    """Run import-linter with the contracts of pyproject.toml on the packages that lie in a folder."""
    program = Path(sys.executable).with_name("lint-imports")
    return subprocess.run(
        [program, "--config", CHECKOUT / "pyproject.toml", "--cache-dir", cache, "--no-logo"],
        cwd=tree,
        capture_output=True,
        text=True,
        env=os.environ | {"COLUMNS": "200"},
    )


def test_the_arrows_point_one_way(installed, tmp_path):
    done = check_contracts(installed, tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "0 broken" in done.stdout


@pytest.mark.parametrize(
    ("file", "line", "broken"),
    [
        ("runtime/session.py", "import keras", "The serving side knows no training framework"),
        ("apps/page.py", "def late():\n    import torch.nn", "The serving side knows no training framework"),
        ("vision/preprocessing.py", "from kzoo.models import load", "The arrows point one way"),
        ("layers/masks.py", "from kzoo import models", "The arrows point one way"),
        ("models/bert.py", "from kzoo import export", "The arrows point one way"),
        ("text/tokenizer.py", "from kzoo import apps", "The arrows point one way"),
        ("layers/masks.py", "import jax", "Nothing in the zoo names a backend"),
        ("weights/table.py", "import keras", "Checkpoints and data are numpy"),
        ("unheard_of.py", "", "The arrows point one way"),
    ],
)
def test_an_arrow_the_other_way_is_found(installed, tmp_path, file, line, broken):
    copy = tmp_path / "copy"
    shutil.copytree(installed, copy)
    with (copy / "kzoo" / file).open("a", encoding="utf-8") as source:
        source.write(f"\n{line}\n")
    done = check_contracts(copy, tmp_path / "cache")
    assert done.returncode != 0
    assert f"{broken} BROKEN" in done.stdout, done.stdout


def run(code: str, cwd: Path | None = None) -> str:
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=cwd, timeout=120)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_importing_kzoo_is_light():
    code = f"""
import sys, time
start = time.process_time()
import kzoo
took = time.process_time() - start
print([name for name in {FRAMEWORKS} if name in sys.modules], took)
"""
    results = [run(code).rsplit(maxsplit=1) for _ in range(3)]
    assert {loaded for loaded, _ in results} == {"[]"}
    assert min(float(took) for _, took in results) < SECONDS


@pytest.mark.parametrize(
    "write", [bundles.write_text_classifier, bundles.write_image_classifier, bundles.write_translator]
)
def test_loading_a_bundle_is_light(tmp_path, write):
    """ONNX Runtime's own import aside."""
    code = f"""
import sys, time
import onnxruntime
start = time.process_time()
import kzoo
kzoo.load({str(write(tmp_path / "bundle"))!r}, device="cpu")
took = time.process_time() - start
print([name for name in {FRAMEWORKS} if name in sys.modules], took)
"""
    results = [run(code).rsplit(maxsplit=1) for _ in range(3)]
    assert {loaded for loaded, _ in results} == {"[]"}
    assert min(float(took) for _, took in results) < SECONDS


@pytest.fixture
def workplace(tmp_path: Path) -> Path:
    """A folder in which somebody has modules named as kzoo's folders are."""
    for name in ("export", "apps", "models", "data", "runtime"):
        (tmp_path / f"{name}.py").write_text("raise SystemExit('the wrong module')\n", encoding="utf-8")
    return tmp_path


def test_a_users_own_modules_disturb_nothing(workplace):
    code = "import kzoo.export, kzoo.apps, kzoo.runtime; print(kzoo.export.to_onnx.__module__)"
    assert run(code, cwd=workplace) == "kzoo.export.exporter"


def test_a_users_own_modules_do_not_disturb_the_command(workplace):
    bundle = bundles.write_text_classifier(workplace / "topic")
    done = subprocess.run(
        [Path(sys.executable).with_name("kzoo"), "predict", bundle, "the bank and the market"],
        capture_output=True,
        text=True,
        cwd=workplace,
    )
    assert done.returncode == 0, done.stderr
    assert "Business" in done.stdout


def test_kzoo_does_not_hide_a_users_own_modules(tmp_path):
    (tmp_path / "apps.py").write_text("mine = True\n", encoding="utf-8")
    assert run("import kzoo.apps, apps; print(apps.mine)", cwd=tmp_path) == "True"
