"""Ports, and what importing and stopping the programs does."""

from __future__ import annotations

import contextlib
import signal
import socket
import subprocess
import sys

import httpx
import pytest

from kzoo.errors import KzooError
from tests.optional import require

FRAMEWORKS = ("keras", "tensorflow", "torch", "jax")


def run(code: str) -> str:
    return subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=120
    ).stdout.strip()


def test_a_taken_port_is_named():
    require("fastapi")
    from kzoo.apps import serve

    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(KzooError, match=f"Port {port} of .* is taken"):
            serve([], port=port, gallery=False)


def test_a_port_or_host_that_does_not_exist_is_named():
    require("fastapi")
    from kzoo.apps import serve

    with pytest.raises(KzooError, match="Port 99999 does not exist"):
        serve([], port=99_999, gallery=False)
    with pytest.raises(KzooError, match="Cannot listen on 192"):
        serve([], host="192.0.2.1", gallery=False)


def test_launch_takes_a_free_port_when_its_own_is_taken():
    require("gradio")
    from kzoo.apps import launch

    with contextlib.ExitStack() as stack:
        with contextlib.suppress(OSError):
            stack.enter_context(socket.create_server(("127.0.0.1", 7860)))
        server = stack.enter_context(launch([], open_browser=False, block=False))
        assert not server.url.endswith(":7860/")
        assert httpx.get(server.url).status_code == 200


def test_importing_the_programs_is_cheap():
    heavy = (*FRAMEWORKS, "gradio", "fastapi", "uvicorn", "onnxruntime")
    assert run(f"import sys, kzoo.apps; print([name for name in {heavy} if name in sys.modules])") == "[]"


def test_the_programs_load_no_training_framework():
    require("gradio")
    code = f"""
import sys
from kzoo.apps import create_app, gallery_app
from kzoo.apps.shelf import open_bundles
create_app([])
gallery_app(open_bundles([]))
print([name for name in {FRAMEWORKS} if name in sys.modules])
"""
    assert run(code) == "[]"


@pytest.mark.parametrize(
    ("package", "name", "extra"), [("gradio", "launch", "apps"), ("fastapi", "serve", "serve")]
)
def test_a_missing_package_is_named_with_its_extra(package, name, extra):
    code = f"""
import sys
sys.modules['{package}'] = None
from kzoo.errors import MissingDependencyError
try:
    from kzoo.apps import {name}
except MissingDependencyError as error:
    print(error)
"""
    assert f"pip install 'kzoo[{extra}]'" in run(code)


@pytest.mark.skipif(sys.platform == "win32", reason="Windows sends no such signals")
@pytest.mark.parametrize("told", [signal.SIGINT, signal.SIGTERM])
def test_a_server_stops_when_told_to(told):
    require("fastapi")
    code = "from kzoo.apps import serve; serve([], port=0, gallery=False)"
    with subprocess.Popen([sys.executable, "-c", code], stderr=subprocess.PIPE, text=True) as process:
        announced = process.stderr.readline()
        url = announced.removeprefix("Serving at ").strip()
        assert httpx.get(url + "health").status_code == 200
        process.send_signal(told)
        _, rest = process.communicate(timeout=10)
    assert "Traceback" not in rest
