"""sentence-transformers folders: how the modules around an encoder pool and normalise, read and written."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from kzoo.errors import KzooError
from kzoo.models.base import TransformerModel
from kzoo.text import Tokenizer
from kzoo.weights import read_json, read_json_list, write_json

_MODULES_FILE = "modules.json"
_SETTINGS_FILE = "sentence_bert_config.json"
_PROMPTS_FILE = "config_sentence_transformers.json"
_POOLING = "1_Pooling"
_MODES = {
    "pooling_mode_cls_token": "cls",
    "pooling_mode_mean_tokens": "mean",
    "pooling_mode_max_tokens": "max",
}
_TYPE = "sentence_transformers.models."


def is_sentence_model(directory: Path) -> bool:
    """Return whether a folder is one of sentence-transformers."""
    return (directory / _MODULES_FILE).is_file()


def encoder_folder(directory: Path) -> Path:
    """Return where the encoder's own files are: the folder itself, or one in it."""
    return _inside(directory, _modules(directory)[0])


def read_modules(directory: Path) -> dict[str, Any]:
    """Return the options of a `TransformerModel` that stand for the folder's modules.

    Raises:
        KzooError: a module, or a way of pooling, that kzoo lacks; the message names it.
    """
    _, *others = _modules(directory)
    kinds = [module["type"].rsplit(".", 1)[-1] for module in others]
    if kinds not in (["Pooling"], ["Pooling", "Normalize"]):
        unknown = next((kind for kind in kinds if kind not in ("Pooling", "Normalize")), None)
        raise KzooError(
            f"{directory}: {_MODULES_FILE} has "
            + (
                f"a module '{unknown}', which kzoo lacks"
                if unknown
                else f"{' and '.join(kinds) or 'no module'}"
            )
            + " after the encoder; kzoo has Pooling, and Normalize after it. Pass task='features' for none."
        )
    options: dict[str, Any] = {
        "pooling": _pooling(_inside(directory, others[0])),
        "normalize": len(kinds) == 2,
    }
    prompt = _read_if_there(directory / _PROMPTS_FILE).get("default_prompt_name")
    if prompt is not None:
        raise KzooError(
            f"{directory}: {_PROMPTS_FILE} puts the prompt '{prompt}' before every text, which kzoo does not: pass "
            "task='features' for the encoder alone."
        )
    settings = _read_if_there(encoder_folder(directory) / _SETTINGS_FILE)
    if settings.get("max_seq_length") is not None:
        options["max_length"] = settings["max_seq_length"]
    return options


def check_case(directory: Path, tokenizer: Tokenizer) -> None:
    """Refuse a folder that lower-cases texts before a tokenizer that minds.

    Raises:
        KzooError: it does.
    """
    settings = _read_if_there(directory / _SETTINGS_FILE)
    upper, lower = tokenizer.encode(["A Dog Runs", "a dog runs"], max_length=32).input_ids
    if settings.get("do_lower_case") and upper.tolist() != lower.tolist():
        raise KzooError(
            f"{directory / _SETTINGS_FILE} says do_lower_case=true, but the folder's tokenizer tells capitals from "
            "small letters: pass task='features', and lower-case the texts yourself."
        )


def write_modules(model: TransformerModel, directory: Path) -> None:
    """Write the modules of a model for embeddings.

    Raises:
        KzooError: the model pools another layer than the last.
    """
    if model.layer != -1:
        raise KzooError(
            f"The model pools layer {model.layer}, and no module of sentence-transformers says so: "
            "`model.save('model.keras')` keeps it."
        )
    kinds = {"Transformer": "", "Pooling": _POOLING} | (
        {"Normalize": "2_Normalize"} if model.normalize else {}
    )
    modules = [
        {"idx": index, "name": str(index), "path": path, "type": _TYPE + kind}
        for index, (kind, path) in enumerate(kinds.items())
    ]
    write_json(directory / _MODULES_FILE, modules)
    write_json(directory / _SETTINGS_FILE, {"max_seq_length": model.max_length, "do_lower_case": False})
    (directory / _POOLING).mkdir()
    modes = {mode: pooling == model.pooling for mode, pooling in _MODES.items()}
    write_json(
        directory / _POOLING / "config.json",
        {"word_embedding_dimension": model.backbone.config.hidden_dim, **modes},
    )
    if model.normalize:
        (directory / "2_Normalize").mkdir()


def _modules(directory: Path) -> list[dict[str, Any]]:
    file = directory / _MODULES_FILE
    modules = read_json_list(file)
    if (
        not all(isinstance(module, dict) and {"type", "path"} <= set(module) for module in modules)
        or not modules
    ):
        raise KzooError(f"{file} is no list of modules, each with a type and a path.")
    if not str(modules[0]["type"]).endswith(".Transformer"):
        raise KzooError(
            f"{file} begins with {modules[0]['type']}; kzoo reads those that begin with a Transformer."
        )
    return modules


def _read_if_there(file: Path) -> dict[str, Any]:
    return read_json(file) if file.is_file() else {}


def _inside(directory: Path, module: dict[str, Any]) -> Path:
    path = directory / str(module["path"])
    if not path.resolve().is_relative_to(directory.resolve()):
        raise KzooError(f"{directory / _MODULES_FILE} names '{module['path']}', which leaves the folder.")
    return path


def _pooling(directory: Path) -> str:
    config = read_json(directory / "config.json")
    chosen = [name for name, value in config.items() if name.startswith("pooling_mode") and value is True]
    if "pooling_mode" in config:
        chosen = [
            f"pooling_mode_{config['pooling_mode']}_token{'' if config['pooling_mode'] == 'cls' else 's'}"
        ]
    if len(chosen) != 1 or chosen[0] not in _MODES:
        raise KzooError(
            f"{directory / 'config.json'} says {' and '.join(chosen) or 'no pooling_mode'}; kzoo pools by one of "
            f"{', '.join(_MODES)}. Pass pooling=... and task='features' for the encoder alone."
        )
    return _MODES[chosen[0]]
