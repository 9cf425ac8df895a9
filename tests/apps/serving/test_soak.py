"""Many clients for a minute, or for as many seconds as KZOO_SOAK_SECONDS says."""

from __future__ import annotations

import asyncio
import os
import random
import re
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import httpx
import numpy as np
import pytest

import kzoo
from tests.apps.serving import loops
from tests.apps.serving.conftest import ids, record
from tests.bundles import ENCODED, write_encoder
from tests.memory import only_on_linux
from tests.optional import require

SECONDS = float(os.environ.get("KZOO_SOAK_SECONDS", "60"))
pytestmark = [pytest.mark.slow, pytest.mark.timeout(300 + 2 * SECONDS), only_on_linux]

CLIENTS = 200
DEADLINE = 9.0
MOST_BYTES = 100_000


def anonymous(process: subprocess.Popen) -> int:
    """Return how many bytes a process holds beside what it maps from files."""
    status = Path(f"/proc/{process.pid}/status").read_text()
    return 1024 * int(re.findall(r"RssAnon:\s+(\d+)", status)[0])


class Crowd:
    """Clients that ask for texts of 1 to 2,000 words, go before they are answered, or send nonsense."""

    def __init__(self, url: str, expected: dict[str, np.ndarray]):
        self.url = url
        self.expected = expected
        self.counts: Counter[str] = Counter()

    async def ask_until(self, client: httpx.AsyncClient, end: float, seed: int) -> None:
        draw = random.Random(seed)
        while time.monotonic() < end:
            await self.ask(client, draw)

    async def ask(self, client: httpx.AsyncClient, draw: random.Random) -> None:
        texts = draw.choices(list(self.expected), k=draw.randint(1, 4))
        what = draw.choices(["right", "gone", "malformed", "oversized"], [88, 5, 5, 2])[0]
        if what == "gone":
            try:
                async with asyncio.timeout(draw.uniform(0, 0.05)):
                    await client.post("/v1/embeddings", json={"input": texts})
            except TimeoutError:
                pass
            return
        if what == "malformed":
            answer = await client.post("/v1/embeddings", content=draw.choice(["{", "[]", '{"input": 3}']))
            assert answer.status_code == 422
        elif what == "oversized":
            answer = await client.post("/v1/embeddings", json={"input": "a" * MOST_BYTES})
            assert answer.status_code == 413
        else:
            answer = await client.post("/v1/embeddings", json={"input": texts})
            self.counts[str(answer.status_code)] += 1
            if answer.status_code != 200:
                return
            got = np.array([entry["embedding"] for entry in answer.json()["data"]])
            np.testing.assert_allclose(got, [self.expected[text] for text in texts], rtol=1e-4, atol=1e-6)

    async def ask_for(self, seconds: float) -> None:
        end = time.monotonic() + seconds
        limits = httpx.Limits(max_connections=CLIENTS)
        async with (
            httpx.AsyncClient(base_url=self.url, timeout=60, limits=limits) as client,
            asyncio.TaskGroup() as group,
        ):
            for seed in range(CLIENTS):
                group.create_task(self.ask_until(client, end, seed))


def test_every_request_is_answered_rightly_in_time_and_without_a_leak(tmp_path):
    require("fastapi")
    bundle = record(write_encoder(tmp_path / "b", "similarity", "embedding", max_length=256), **ids(2, 6, 3))
    draw = random.Random(0)
    lengths = [1, 2, 3, 5, 8, 13, 21, 40, 80, 150, 254, 600, 1200, 2000]
    texts = [" ".join(draw.choices(ENCODED, k=length)) for length in lengths for _ in range(3)]
    with pytest.warns(kzoo.runtime.TruncationWarning):
        expected = dict(zip(texts, kzoo.load(bundle, device="cpu")(texts), strict=True))
    command = [sys.executable, "-m", "kzoo", "serve", bundle, "--no-gallery", "--port", "0"]
    command += ["--no-access-log", "--deadline", str(DEADLINE), "--max-bytes", str(MOST_BYTES)]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        try:
            url = process.stderr.readline().removeprefix("Serving at ").strip()
            crowd = Crowd(url, expected)
            loops.run(crowd.ask_for(SECONDS / 4))
            before = anonymous(process)
            loops.run(crowd.ask_for(SECONDS))
            grown = anonymous(process) - before
            figures = httpx.get(url + "metrics").text
        finally:
            process.terminate()
    # On a machine with other work to do some are given up, in time.
    assert set(crowd.counts) <= {"200", "429", "504"}
    assert crowd.counts["200"] > 100
    seconds = 'kzoo_request_seconds_{}{{{}route="/v1/embeddings"}} ([0-9.]+)'
    (within,) = re.findall(seconds.format("bucket", 'le="10.0",'), figures)
    (all_of_them,) = re.findall(seconds.format("count", ""), figures)
    assert within == all_of_them
    assert grown < 32 * 2**20
    assert 'kzoo_queue_items{model="similarity"} 0.0' in figures
