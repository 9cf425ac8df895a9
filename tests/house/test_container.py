"""The Dockerfile's steps, taken in a fresh virtual environment."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
import venv
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests import bundles
from tests.house import CHECKOUT

pytestmark = pytest.mark.slow

INSTRUCTIONS = re.findall(
    r"^([A-Z]+) (.+)$", (CHECKOUT / "Dockerfile").read_text(encoding="utf-8"), re.MULTILINE
)


def arguments(instruction: str) -> list[str]:
    return [argument for name, argument in INSTRUCTIONS if name == instruction]


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A virtual environment that stands for the image: what is copied is all that its steps see."""
    root = tmp_path_factory.mktemp("image")
    source = root / "src"
    source.mkdir()
    for copy in arguments("COPY"):
        *names, target = shlex.split(copy)
        for name in names:
            path = CHECKOUT / name
            if path.is_dir():
                shutil.copytree(path, source / target, ignore=shutil.ignore_patterns("__pycache__"))
            else:
                shutil.copy(path, source / target)
    venv.create(root / "venv", with_pip=True)
    programs = root / "venv" / "bin"
    for step in arguments("RUN"):
        if step.startswith("pip "):
            done = subprocess.run(
                step, shell=True, cwd=source, env=environment(programs), capture_output=True, text=True
            )
            if (
                done.returncode
                and os.environ.get("CI") != "true"
                and "No matching distribution" in done.stderr
            ):
                pytest.skip(f"pip found no packages: {done.stderr[-300:]}")
            assert done.returncode == 0, done.stdout + done.stderr
    shutil.rmtree(source)
    return programs


def environment(programs: Path) -> dict[str, str]:
    kept = {
        name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "VIRTUAL_ENV"))
    }
    return kept | {"PATH": f"{programs}{os.pathsep}{os.environ['PATH']}"}


@pytest.fixture(scope="module")
def service(image: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of the image's command, with bundles of ours and on loopback."""
    shelf = tmp_path_factory.mktemp("bundles")
    bundles.write_text_classifier(shelf / "topic")
    bundles.write_image_classifier(shelf / "shade")
    bundles.write_translator(shelf / "en-de")
    (command,) = arguments("CMD")
    swapped = {"/bundles": str(shelf), "0.0.0.0": "127.0.0.1", "8000": "0"}
    words = [swapped.get(word, word) for word in json.loads(command)]
    assert words != json.loads(command)
    words[0] = str(image / words[0])
    with subprocess.Popen(
        words, stderr=subprocess.PIPE, text=True, cwd=shelf, env=environment(image)
    ) as process:
        assert process.stderr is not None
        lines = []
        for line in process.stderr:
            lines.append(line)
            if found := re.search(r"Serving at (\S+)/", line):
                break
        else:
            pytest.fail("".join(lines))
        yield found[1]
        process.terminate()


def test_the_service_answers(service):
    assert httpx.get(f"{service}/health").json() == {"status": "ok", "models": 3, "failed": []}
    answer = httpx.post(f"{service}/predict/topic", json={"inputs": ["the bank"]})
    assert answer.json()["results"][0]["label"] == "Business"
    answer = httpx.post(f"{service}/predict/en-de", json={"inputs": ["A dog runs."]})
    assert answer.json()["results"][0]["translation"] == "Ein Hund rennt."


def test_no_training_framework_is_there(image):
    heavy = ("keras", "tensorflow", "torch", "jax", "onnx", "tf2onnx", "sklearn", "gradio", "matplotlib")
    code = f"from importlib.util import find_spec; print([name for name in {heavy} if find_spec(name)])"
    done = subprocess.run(
        [image / "python", "-c", code], capture_output=True, text=True, env=environment(image), check=True
    )
    assert done.stdout.strip() == "[]"


def test_a_command_that_needs_a_framework_names_the_extra(image):
    done = subprocess.run(
        [image / "kzoo", "list"], capture_output=True, text=True, env=environment(image), cwd=image
    )
    assert done.returncode == 1
    assert "kzoo[train]" in done.stderr
    assert "Traceback" not in done.stderr


def test_the_context_holds_what_is_copied():
    """What .dockerignore leaves out cannot be copied."""
    kept = {
        line.removeprefix("!")
        for line in (CHECKOUT / ".dockerignore").read_text(encoding="utf-8").splitlines()
        if line.startswith("!")
    }
    assert kept == {name for copy in arguments("COPY") for name in shlex.split(copy)[:-1]}
