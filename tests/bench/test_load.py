"""The load generator against a server that answers, refuses and hangs up as the test says."""

from __future__ import annotations

import http.server
import itertools
import math
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from kzoo.bench import Ask, ask_all
from kzoo.errors import KzooError


@contextmanager
def answering(*statuses: int) -> Iterator[tuple[str, list[bytes]]]:
    """Serve these statuses in turn, the last for ever, 0 hangs up; yields the address and the bodies that came."""
    turns = itertools.chain(statuses, itertools.repeat(statuses[-1]))
    bodies: list[bytes] = []

    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            bodies.append(self.rfile.read(int(self.headers["content-length"])))
            status = next(turns)
            if status == 0:
                self.close_connection = True
                return
            self.send_response(status)
            self.send_header("content-length", "2")
            self.end_headers()
            self.wfile.write(b"{}")

        def log_message(self, *_: object) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_address[1]}", bodies
    server.shutdown()
    server.server_close()


def test_everything_is_asked_once_and_counted():
    asks = [Ask(b"%d" % place, place) for place in range(1, 21)]
    with answering(200) as (url, bodies):
        load = ask_all(url, asks, clients=4)
    assert sorted(bodies, key=int) == [ask.body for ask in asks]
    assert (load.sentences, len(load.latencies)) == (sum(range(21)), 20)
    assert load.rate == pytest.approx(load.sentences / load.seconds)
    assert min(load.latencies) <= load.percentile(50) <= load.percentile(99) <= max(load.latencies)


def test_what_has_no_end_ends_after_its_time():
    with answering(200) as (url, bodies):
        load = ask_all(url, itertools.cycle([Ask(b"a")]), clients=2, seconds=0.2)
    assert len(bodies) == load.sentences >= 2
    assert load.seconds >= 0.2


def test_refusals_and_lost_connections_are_told_apart_and_not_counted_as_answers():
    with answering(429, 0, 200) as (url, _):
        load = ask_all(url, [Ask(b"a")] * 5, clients=1)
    assert load.sentences == 3
    assert load.refusals == {"status 429": 1, "no connection (RemoteDisconnected)": 1}


def test_where_nobody_answers_there_are_no_figures():
    with answering(200) as (url, _):
        pass
    load = ask_all(url, [Ask(b"a")] * 2, clients=2)
    assert load.refusals == {"no connection (ConnectionRefusedError)": 2}
    assert (load.rate, math.isnan(load.percentile(50))) == (0.0, True)
    with pytest.raises(KzooError, match="no address of a service"):
        ask_all("localhost:8000", [], clients=1)
