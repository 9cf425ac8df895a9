"""Ray: the cluster that an address names, or one on this machine for as long as it is needed."""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import socket
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from kzoo.errors import KzooError, MissingDependencyError

ADDRESS = "RAY_ADDRESS"
# Ray's sockets lie below its folder, and a socket's path has at most 107 bytes.
_LONGEST_FOLDER = 40
_CONNECT_SECONDS = 5.0
_LEAST_STORE = 100 * 2**20
_STORE_PER_CPU = 16 * 2**20  # bytes


@contextlib.contextmanager
def ray_cluster(address: str | None = None, cpus: int | None = None) -> Iterator[Any]:
    """Give the module `ray`, connected to a cluster.

    A program that is connected already keeps its cluster. A cluster that is started here listens on 127.0.0.1 alone,
    asks for a secret that only its own processes know, has no dashboard, sends no usage statistics, writes to a
    temporary folder of its own, and is stopped when the block ends, or with the program.

    Args:
        address: of a cluster that this machine belongs to, host:port or `"auto"`; by default what `RAY_ADDRESS` says.
        cpus: tasks that a cluster which is started here runs at once; by default as many as there are cores.

    Raises:
        MissingDependencyError: Ray is not installed.
        KzooError: no cluster answers there, or none can be started.
    """
    address = address or os.environ.get(ADDRESS)
    with contextlib.ExitStack() as stack:
        if address:
            _check_answers(address)
        else:
            _keep_to_this_machine()
        ray = _import()
        if not ray.is_initialized():
            stack.enter_context(_connected(ray, address) if address else _started(ray, cpus))
        yield ray


def _keep_to_this_machine() -> None:
    """Set what Ray reads when it is imported and when its processes start.

    A program that has imported it already has settled the address and the secret itself.
    """
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    if "ray" in sys.modules:
        return
    # Despite its name it is heeded everywhere; without it Ray takes the machine's address on the network.
    os.environ.setdefault("RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER", "0")
    # Else whoever has an account here could have the cluster run what he likes.
    if os.environ.setdefault("RAY_AUTH_MODE", "token") == "token" and "RAY_AUTH_TOKEN_PATH" not in os.environ:
        os.environ.setdefault("RAY_AUTH_TOKEN", secrets.token_hex(32))


def _check_answers(address: str) -> None:
    """Refuse an address where nothing listens, which Ray would try for minutes."""
    host, _, port = address.rpartition(":")
    if not (host and port.isdecimal()) or "://" in host:
        return
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=_CONNECT_SECONDS).close()
    except (OSError, OverflowError) as error:
        raise KzooError(
            f"No Ray cluster answers at '{address}': {error}. 'ray start --head' starts one; without an address it "
            "is started for this command."
        ) from None


def _import() -> Any:
    try:
        import ray
    except ImportError as error:
        raise MissingDependencyError(
            f"Ray cannot be imported ({error}). Install it: pip install 'kzoo[ray]'"
        ) from None
    return ray


@contextlib.contextmanager
def _connected(ray: Any, address: str) -> Iterator[None]:
    try:
        ray.init(address=address, logging_level="ERROR", log_to_driver=False)
    except Exception as error:  # each way to fail has an exception of its own
        raise KzooError(f"No Ray cluster at '{address}': {_first_line(error)}") from error
    try:
        yield
    finally:
        ray.shutdown()


@contextlib.contextmanager
def _started(ray: Any, cpus: int | None) -> Iterator[None]:
    root = tempfile.gettempdir()
    folder = Path(tempfile.mkdtemp(prefix="kzoo-ray-", dir=root if len(root) <= _LONGEST_FOLDER else "/tmp"))
    settings: dict[str, Any] = {
        "address": "local",
        "num_cpus": cpus or os.cpu_count(),
        "object_store_memory": max(_LEAST_STORE, (cpus or 1) * _STORE_PER_CPU),
        "include_dashboard": False,
        "logging_level": "ERROR",
        "log_to_driver": False,
        "_temp_dir": str(folder),
        "_node_ip_address": "127.0.0.1",
    }
    try:
        # Ray waits 30 seconds for its processes, which on a busy machine may be too short the first time.
        try:
            ray.init(**settings)
        except Exception:
            ray.shutdown()
            ray.init(**settings)
    except Exception as error:  # each way to fail has an exception of its own
        shutil.rmtree(folder, ignore_errors=True)
        raise KzooError(
            f"Ray did not start: {_first_line(error)} A machine that is very busy may be too slow for it."
        ) from error
    try:
        yield
    finally:
        ray.shutdown()
        shutil.rmtree(folder, ignore_errors=True)


def _first_line(error: BaseException) -> str:
    return str(error).strip().partition("\n")[0] or type(error).__name__
