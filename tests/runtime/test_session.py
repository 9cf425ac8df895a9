import importlib.metadata
import os
import subprocess
import sys

import numpy as np
import onnxruntime
import pytest
from onnx import TensorProto, helper, save

from kzoo.errors import BundleError, KzooError, MissingDependencyError
from kzoo.runtime import open_session, session


@pytest.fixture
def has_gpu(bundle):
    return open_session(bundle / "model.onnx").device == "cuda"


FEEDS = {"input_ids": np.array([[2, 6, 3]], np.int32), "attention_mask": np.ones((1, 3), np.int32)}


def test_cpu(bundle):
    opened = open_session(bundle / "model.onnx", device="cpu", threads=1)
    assert opened.device == "cpu"
    assert opened.inputs == {"input_ids": np.int64, "attention_mask": np.int64}
    assert opened.outputs == ["logits"]


def test_run_casts_and_leaves_out_what_the_graph_does_not_take(bundle):
    opened = open_session(bundle / "model.onnx", device="cpu")
    outputs = opened.run(FEEDS | {"token_type_ids": np.zeros((1, 3))})
    assert list(outputs) == ["logits"] and outputs["logits"].shape == (1, 3)


def test_run_names_what_is_missing_or_does_not_fit(bundle):
    opened = open_session(bundle / "model.onnx", device="cpu")
    with pytest.raises(BundleError, match="attention_mask"):
        opened.run({"input_ids": FEEDS["input_ids"]})
    with pytest.raises(BundleError, match=r"input_ids \(3,\)"):
        opened.run(FEEDS | {"input_ids": np.array([2, 6, 3])})


def test_cuda_is_used_or_refused(bundle, has_gpu):
    if has_gpu:
        assert open_session(bundle / "model.onnx", device="cuda").device == "cuda"
    else:
        with pytest.raises(KzooError, match=r"device='cuda' cannot be used: .*pip install"):
            open_session(bundle / "model.onnx", device="cuda")


def test_cuda_that_fails_later_than_loading(bundle, monkeypatch):
    """A driver that is missing shows only when the session starts."""
    real = onnxruntime.InferenceSession

    def start(path, options, providers, **kwargs):
        if providers != ["CPUExecutionProvider"]:
            raise RuntimeError("CUDA failure 100: no CUDA-capable device is detected")
        return real(path, options, providers=providers, **kwargs)

    monkeypatch.setattr(onnxruntime, "InferenceSession", start)
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: ["CUDAExecutionProvider"])
    assert open_session(bundle / "model.onnx", device="auto").device == "cpu"
    with pytest.raises(KzooError, match="no CUDA-capable device"):
        open_session(bundle / "model.onnx", device="cuda")


def test_cuda_with_the_cpu_build(bundle, monkeypatch):
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: ["CPUExecutionProvider"])
    assert open_session(bundle / "model.onnx").device == "cpu"
    with pytest.raises(KzooError, match="for the CPU only"):
        open_session(bundle / "model.onnx", device="cuda")


def test_auto_is_silent(bundle, has_gpu):
    """A machine without a GPU is no error: nothing on stdout or stderr, C++ included."""
    code = f"import kzoo; print(kzoo.load({str(bundle)!r}).device)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == ("cuda\n" if has_gpu else "cpu\n")
    assert done.stderr == ""


def test_unknown_device(bundle):
    with pytest.raises(KzooError, match="Did you mean 'cuda'"):
        open_session(bundle / "model.onnx", device="cudaa")


def test_threads_and_session_options(bundle):
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    assert open_session(bundle / "model.onnx", "cpu", session_options=options).device == "cpu"
    with pytest.raises(KzooError, match="not both"):
        open_session(bundle / "model.onnx", "cpu", threads=2, session_options=options)
    with pytest.raises(KzooError, match="threads is 0"):
        open_session(bundle / "model.onnx", "cpu", threads=0)


def test_file_that_is_no_graph(tmp_path):
    file = tmp_path / "model.onnx"
    file.write_bytes(b"not a graph")
    with pytest.raises(BundleError, match=r"cannot load .*model\.onnx"):
        open_session(file, "cpu")


def test_weights_outside_the_folder_are_refused(tmp_path):
    (tmp_path / "secret").write_bytes(np.ones(4, np.float32).tobytes())
    weight = TensorProto(name="w", data_type=TensorProto.FLOAT, dims=[4], data_location=TensorProto.EXTERNAL)
    for key, value in (("location", "../secret"), ("offset", "0"), ("length", "16")):
        weight.external_data.add(key=key, value=value)
    vector = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [4]) for name in ("x", "y")]
    graph = helper.make_graph(
        [helper.make_node("Add", ["x", "w"], ["y"])], "g", vector[:1], vector[1:], [weight]
    )
    inner = tmp_path / "bundle"
    inner.mkdir()
    save(
        helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10), inner / "m.onnx"
    )
    with pytest.raises(BundleError, match="secret"):
        open_session(inner / "m.onnx", "cpu")


@pytest.fixture
def fresh_import():
    session._import_onnxruntime.cache_clear()
    yield
    session._import_onnxruntime.cache_clear()


def test_both_builds_installed(bundle, monkeypatch, fresh_import):
    monkeypatch.setattr(importlib.metadata, "distribution", lambda name: name)
    with pytest.warns(RuntimeWarning, match="pip uninstall -y onnxruntime onnxruntime-gpu") as caught:
        open_session(bundle / "model.onnx", "cpu")
        open_session(bundle / "model.onnx", "cpu")
    assert len(caught) == 1


def test_no_onnxruntime(bundle, monkeypatch, fresh_import):
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(MissingDependencyError, match="pip install onnxruntime"):
        open_session(bundle / "model.onnx", "cpu")


FRAMEWORKS = ("keras", "tensorflow", "torch", "jax", "onnx", "transformers")


def test_loading_and_calling_imports_no_framework(bundle):
    code = (
        "import sys, kzoo, kzoo.vision, kzoo.search\n"
        f"kzoo.load({str(bundle)!r})('the dog')\n"
        f"print([name for name in {FRAMEWORKS} if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


def test_importing_the_runtime_is_light():
    """Resolving `kzoo.load` loads neither ONNX Runtime nor Pillow, and takes well under a second."""
    code = (
        "import sys, time; start = time.process_time()\n"
        "import kzoo; kzoo.load\n"
        "took = time.process_time() - start\n"
        "print('onnxruntime' in sys.modules, 'PIL' in sys.modules, took)"
    )
    environment = os.environ | {"PYTHONDONTWRITEBYTECODE": "1"}
    runs = [
        subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment
        )
        for _ in range(3)
    ]
    results = [run.stdout.split() for run in runs]
    assert all(result[:2] == ["False", "False"] for result in results)
    assert min(float(result[2]) for result in results) < 0.5
