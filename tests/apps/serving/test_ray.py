"""The service in replicas on Ray, whatever is killed on the way."""

from __future__ import annotations

import json
import logging
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest

from kzoo.client import Client
from kzoo.errors import KzooError
from tests.apps.conftest import wait_until
from tests.bulk.test_ray import processes
from tests.cli.commands import assert_mistake, kzoo_command
from tests.optional import require, require_ray

TITLE = "ray::ServeReplica"


@pytest.fixture(scope="module")
def replicated(shelf: dict[str, Path]) -> Iterator[str]:
    """The address of a service in two replicas: they take a while to start."""
    require("fastapi")
    require_ray()
    from kzoo.apps import Limits, Replicas, ray_server
    from kzoo.cluster import ray_cluster

    bundles = [shelf["topic"], shelf["similarity"], shelf["en-de"]]
    limits = Limits(deadline=120, max_bytes=1_000_000, max_items=64)
    with (
        ray_cluster(cpus=3),
        ray_server(bundles, port=0, replicas=Replicas(2, 2), limits=limits, access_log=True) as server,
        server.start(),
    ):
        yield server.url
    # Ray Serve goes on pushing its metrics from this process, and would say every ten seconds that nobody takes them.
    logging.getLogger("ray.serve").disabled = True


def lines(caplog: pytest.LogCaptureFixture) -> list[dict[str, Any]]:
    return [json.loads(record.getMessage()) for record in caplog.records]


@pytest.mark.slow
def test_replicas_answer_as_the_service_does(
    replicated: str, service: Any, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logging.getLogger("kzoo.service"), "propagate", True)
    caplog.set_level(logging.INFO, "kzoo.service")
    for path, body in (
        ("classify", {"inputs": ["the market", "goal"], "model": "topic"}),
        ("v1/embeddings", {"input": ["the dog", "a cat"], "model": "similarity"}),
        ("translate", {"inputs": ["A dog runs."], "model": "en-de"}),
        ("classify", {"inputs": ["goal"], "model": "topics"}),
        ("classify", {"inputs": [], "model": "topic"}),
    ):
        answers = [httpx.post(url + path, json=body, timeout=130) for url in (replicated, service.url)]
        assert answers[0].status_code == answers[1].status_code
        if answers[0].status_code == 200:
            assert answers[0].json() == answers[1].json()
    with Client(replicated, timeout=130) as client:
        assert [*client.stream("/translate", "A dog runs.", model="en-de")][-1] == "Ein Hund rennt."
    told = httpx.get(replicated + "health", headers={"x-request-id": "mine"}, timeout=130)
    assert (told.status_code, told.headers["x-request-id"]) == (200, "mine")
    # The line is written once the answer has gone out.
    wait_until(lambda: any(line["id"] == "mine" and line["route"] == "/health" for line in lines(caplog)))
    assert not any("market" in record.getMessage() for record in caplog.records)


@pytest.mark.slow
def test_limits_and_names_hold_in_front_of_replicas(replicated: str) -> None:
    assert httpx.get(replicated + "health", headers={"host": "evil.example"}).status_code == 421
    large = httpx.post(replicated + "classify", content=b"a" * 1_500_000)
    assert large.status_code == 413


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="looks for processes where Linux shows them")
def test_all_that_ray_opens_is_open_to_this_machine_alone(replicated: str) -> None:
    sockets = {
        str(each.readlink())
        for process in processes("")
        for each in Path(f"/proc/{process}/fd").glob("*")
        if each.is_symlink()
    }
    reachable = []
    for table, loopback in (
        ("tcp", ("0100007F",)),
        ("tcp6", ("0" * 24 + "01000000", "0" * 16 + "FFFF00000100007F")),
    ):
        for line in Path(f"/proc/net/{table}").read_text().splitlines()[1:]:
            cells = line.split()
            listens = cells[3] == "0A" and f"socket:[{cells[9]}]" in sockets
            if listens and cells[1].partition(":")[0] not in loopback:
                reachable.append(line)
    assert sockets and not reachable


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="looks for processes where Linux shows them")
def test_when_replicas_are_killed_every_request_is_still_answered(replicated: str) -> None:
    """Both replicas, one after the other, while eight clients ask without a pause."""
    wait_until(lambda: len(processes(TITLE)) == 2)
    first = processes(TITLE)
    answers: list[str] = []
    ends = False

    def ask_on(text: str) -> int:
        asked = 0
        with Client(replicated, timeout=150) as client:
            while not ends:
                asked += 1
                answers.append(client.classify([text] * 3, model="topic")[-1]["label"] + text)
        return asked

    with ThreadPoolExecutor(8) as pool:
        asking = [pool.submit(ask_on, "goal" if index % 2 else "bank") for index in range(8)]
        try:
            wait_until(lambda: len(answers) > 50)
            for process in first:
                os.kill(process, signal.SIGKILL)
                before = len(answers)
                wait_until(lambda before=before: len(answers) > before + 50, 120)
            wait_until(lambda: len(processes(TITLE) - first) == 2, 120)
        finally:
            ends = True
        asked = sum(each.result(200) for each in asking)
    assert asked == len(answers)
    assert set(answers) == {"Sportsgoal", "Businessbank"}


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="looks for processes where Linux shows them")
def test_sigterm_ends_it_all_and_what_was_accepted_is_answered(
    replicated: str, shelf: dict[str, Path]
) -> None:
    """On a cluster that is there already, and stays."""
    ray = require("ray")
    before = processes(TITLE)
    flags = ["--engine", "ray", "--max-replicas", "1", "--port", "0", "--no-access-log", "--deadline", "120"]
    flags += ["--address", ray.get_runtime_context().gcs_address]
    command = [sys.executable, "-m", "kzoo", "serve", str(shelf["topic"]), *flags]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        url = process.stderr.readline().removeprefix("Serving at ").strip()
        assert url.startswith("http://"), process.stderr.read()
        wait_until(lambda: processes(TITLE) - before)
        answers: list[int] = []

        def ask_on() -> None:
            with httpx.Client(base_url=url, timeout=60) as client:
                try:
                    while True:
                        answers.append(client.post("/classify", json={"inputs": ["goal"] * 3}).status_code)
                except httpx.TransportError:
                    return  # stopped

        with ThreadPoolExecutor(4) as pool:
            for _ in range(4):
                pool.submit(ask_on)
            wait_until(lambda: len(answers) > 20)
            process.send_signal(signal.SIGTERM)
        log = process.stderr.read()
        assert process.wait(60) == 0
    assert set(answers) == {200}
    assert "Traceback" not in log
    wait_until(lambda: processes(TITLE) == before)
    assert httpx.get(replicated + "health", timeout=130).status_code == 200


def test_numbers_of_replicas_that_make_no_sense_are_refused(shelf: dict[str, Path]) -> None:
    require("fastapi")
    from kzoo.apps import Replicas

    with pytest.raises(KzooError, match="at least 3 and at most 2 replicas"):
        Replicas(3, 2)
    flags = ("--engine", "ray", "--min-replicas", 3, "--max-replicas", 2)
    assert_mistake(kzoo_command("serve", shelf["topic"], *flags), "at most 2 replicas")


def test_without_ray_one_line_names_the_extra(
    shelf: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    require("fastapi")
    monkeypatch.setitem(sys.modules, "ray", None)
    assert_mistake(
        kzoo_command("serve", shelf["topic"], "--engine", "ray", "--port", 0), "pip install 'kzoo[ray]'"
    )
