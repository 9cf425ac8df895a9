"""ONNX Runtime sessions: the device that was asked for, or an error that says why not."""

from __future__ import annotations

import contextlib
import functools
import importlib.metadata
import io
import os
import warnings
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from kzoo.errors import BundleError, KzooError, MissingDependencyError, did_you_mean

if TYPE_CHECKING:
    import onnxruntime

Device = Literal["auto", "cpu", "cuda"]

_CUDA, _CPU = "CUDAExecutionProvider", "CPUExecutionProvider"
_SILENT, _ERRORS, _WARNINGS = 4, 3, 2

_DTYPES = {
    "tensor(bool)": np.bool_,
    "tensor(double)": np.float64,
    "tensor(float)": np.float32,
    "tensor(float16)": np.float16,
    "tensor(int32)": np.int32,
    "tensor(int64)": np.int64,
    "tensor(uint8)": np.uint8,
}


class Session:
    """One graph, ready to run; safe to use from many threads at once.

    Attributes:
        device: where it runs, `"cpu"` or `"cuda"`.
        inputs: numpy dtype of each input, by name.
        outputs: names of the outputs.
    """

    def __init__(self, session: onnxruntime.InferenceSession):
        self._session = session
        self.device: str = "cuda" if _CUDA in session.get_providers() else "cpu"
        self.inputs = {node.name: _dtype(node) for node in session.get_inputs()}
        self.outputs = [node.name for node in session.get_outputs()]

    def run(
        self, feeds: Mapping[str, np.ndarray], outputs: Sequence[str] | None = None
    ) -> dict[str, np.ndarray]:
        """Run the graph on those of `feeds` that it takes, cast to its dtypes, and return these outputs, or all.

        Raises:
            BundleError: if an input is missing or does not fit the graph.
        """
        wanted = self.outputs if outputs is None else list(outputs)
        if not self.inputs.keys() <= feeds.keys():
            missing = ", ".join(sorted(self.inputs.keys() - feeds.keys()))
            raise BundleError(f"The graph needs inputs that it was not given: {missing}.")
        taken = {name: np.asarray(feeds[name], dtype) for name, dtype in self.inputs.items()}
        try:
            values = self._session.run(wanted, taken)
        except Exception as error:  # the library raises bare Exception and its subclasses
            shapes = ", ".join(f"{name} {value.shape}" for name, value in taken.items())
            raise BundleError(f"The graph failed on {shapes}: {error}") from error
        return dict(zip(wanted, values, strict=True))

    def run_kept(self, feeds: Mapping[str, Any], outputs: Sequence[str]) -> dict[str, Any]:
        """As `run`, with outputs that stay on the device; what was kept so may be fed again."""
        # On the CPU ONNX Runtime's own values cost a small graph more than the copy into arrays that they save.
        return self.run(feeds, outputs)

    def to_numpy(self, value: Any) -> np.ndarray:
        """Return what `run_kept` kept as an array."""
        return value

    def placements(self) -> list[tuple[str, str, str]]:
        """Return provider, operation and name of each node, of a session from `open_recording_session`."""
        return [
            (part.ep_name, node.op_type, node.name)
            for part in self._session.get_provider_graph_assignment_info()
            for node in part.get_nodes()
        ]


def open_recording_session(path: str | os.PathLike[str], device: Device = "auto") -> Session:
    """Load an ONNX file as `open_session` does, and keep note of where each node is placed."""
    options = _import_onnxruntime().SessionOptions()
    options.log_severity_level = _ERRORS
    options.add_session_config_entry("session.record_ep_graph_assignment_info", "1")
    return open_session(path, device, session_options=options)


def open_session(
    path: str | os.PathLike[str],
    device: Device = "auto",
    threads: int | None = None,
    session_options: onnxruntime.SessionOptions | None = None,
    spinning: bool = True,
) -> Session:
    """Load an ONNX file.

    Args:
        path: the file; weights beside it are found, elsewhere refused.
        device: `"cuda"` runs on an NVIDIA GPU or raises; `"auto"` takes the GPU if it starts, else the CPU.
        threads: threads for one operation; all cores if None.
        session_options: ONNX Runtime's own, for what this function does not offer; excludes `threads`.
        spinning: whether threads that wait for work keep their cores busy, to be there at once; better not where
            other work is done between many short runs. Options that are given say it themselves.

    Raises:
        KzooError: if the device is unknown or cannot be used.
        BundleError: if ONNX Runtime cannot read the file.
        MissingDependencyError: if ONNX Runtime is not installed.
    """
    if device not in ("auto", "cpu", "cuda"):
        raise KzooError(f"Unknown device '{device}'.{did_you_mean(device, ['auto', 'cpu', 'cuda'])}")
    ort = _import_onnxruntime()
    if session_options is None:
        session_options = ort.SessionOptions()
        session_options.log_severity_level = _ERRORS
        if threads is not None:
            session_options.intra_op_num_threads = checked_threads(threads)
        if not spinning:
            session_options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    elif threads is not None:
        raise KzooError("Give threads or session_options, not both: set intra_op_num_threads in the options.")

    if device != "cpu":
        session, reason = _try_cuda(ort, path, session_options)
        if session is not None:
            return Session(session)
        if device == "cuda":
            raise KzooError(
                f"device='cuda' cannot be used: {reason}. Install the GPU build with its libraries, "
                "pip install 'kzoo[cuda]', check the driver with nvidia-smi, or use device='cpu'."
            )
    try:
        session = ort.InferenceSession(os.fspath(path), session_options, providers=[_CPU])
    except Exception as error:  # the library raises bare Exception and its subclasses
        raise BundleError(f"ONNX Runtime {ort.__version__} cannot load {path}: {error}") from error
    return Session(session)


def _dtype(node: onnxruntime.NodeArg) -> np.dtype:
    if node.type not in _DTYPES:
        raise BundleError(f"Input '{node.name}' is a {node.type}, which has no numpy dtype. Export again.")
    return np.dtype(_DTYPES[node.type])


def _try_cuda(ort: Any, path: str | os.PathLike[str], options: Any) -> tuple[Any, str]:
    """Return a session that runs on the GPU, or None and the reason why there is none."""
    if _CUDA not in ort.get_available_providers():
        return None, "this build of ONNX Runtime is for the CPU only"
    missing = _load_cuda_libraries(ort)
    # The log line that says why the GPU does not start goes to the process' stderr: for "auto" it is noise,
    # for "cuda" the error that follows says it.
    ort.set_default_logger_severity(_SILENT)
    # TF32 would round float32 products to 10 bits, and golden outputs would not come back within tolerance.
    providers = [(_CUDA, {"use_tf32": "0"}), _CPU]
    try:
        # Without enable_fallback=0 a GPU that fails is swapped for the CPU behind our back, now or later.
        session = ort.InferenceSession(os.fspath(path), options, providers=providers, enable_fallback=0)
    except Exception as error:
        return None, str(error)
    finally:
        ort.set_default_logger_severity(_WARNINGS)
    if _CUDA not in session.get_providers():
        return None, missing or "its CUDA provider does not start"
    return session, ""


@functools.cache
def _load_cuda_libraries(ort: Any) -> str:
    """Load CUDA and cuDNN from their Python packages, and return what could not be loaded."""
    if not hasattr(ort, "preload_dlls"):
        return ""
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        ort.preload_dlls()
    return "; ".join(line for line in printed.getvalue().splitlines() if line.startswith("Failed"))


@functools.cache
def _import_onnxruntime() -> Any:
    installed = [name for name in ("onnxruntime", "onnxruntime-gpu") if _is_installed(name)]
    if len(installed) == 2:
        warnings.warn(
            "onnxruntime and onnxruntime-gpu are both installed and overwrite each other's files. Mend it: "
            "pip uninstall -y onnxruntime onnxruntime-gpu && pip install onnxruntime-gpu",
            RuntimeWarning,
            stacklevel=3,
        )
    try:
        import onnxruntime
    except ImportError as error:
        raise MissingDependencyError(
            f"ONNX Runtime cannot be imported ({error}). Install it: pip install onnxruntime "
            "(onnxruntime-gpu for NVIDIA GPUs; never both)."
        ) from error
    return onnxruntime


def _is_installed(distribution: str) -> bool:
    try:
        importlib.metadata.distribution(distribution)
    except importlib.metadata.PackageNotFoundError:
        return False
    return True


def checked_threads(threads: int) -> int:
    """Return a number of threads.

    Raises:
        KzooError: if it is below 1.
    """
    if threads < 1:
        raise KzooError(f"threads is {threads}; it must be at least 1.")
    return threads
