"""A model as a checkpoint of the original library: what `from_pretrained` reads, written back."""

from __future__ import annotations

import os
import pathlib
import re
from typing import Any

from kzoo.errors import KzooError
from kzoo.models import tensors
from kzoo.models.base import TransformerModel
from kzoo.models.preprocessor import PREPROCESSOR_FILE, write_preprocessing
from kzoo.models.pretrained import PROBLEM_TYPES
from kzoo.models.sentence import write_modules
from kzoo.replace import replacing
from kzoo.text import Tokenizer
from kzoo.training.lora import adapted_layers
from kzoo.weights import FAMILIES, Family, Head, Pending, write_json, write_tensors

# What such a folder may hold when it is written again.
_OWN_FILES = re.compile(
    r"config\.json|model(-\d+-of-\d+)?\.safetensors|model\.safetensors\.index\.json|preprocessor_config\.json"
    r"|tokenizer(_config)?\.json|source\.spm|target\.spm|vocab\.json|modules\.json|sentence_bert_config\.json|1_Pooling|2_Normalize"
)
_UNKNOWN = ("[UNK]", "<unk>")


def save_pretrained(model: TransformerModel, directory: str | os.PathLike[str]) -> None:
    """Write a model as a folder that the original library, and `from_pretrained`, open.

    The folder holds config.json, model.safetensors (above 5 GB several files and an index), tokenizer.json and
    tokenizer_config.json where the model has a tokenizer, preprocessor_config.json where it reads images, and for
    embeddings the modules of a sentence-transformers folder. It appears whole, or not at all.

    Args:
        model: any of a family with published checkpoints.
        directory: the folder; one that an earlier call wrote is replaced.

    Raises:
        KzooError: the original library has no class for the model, or the folder holds something else.
    """
    target = pathlib.Path(directory)
    _refuse_other_contents(target)
    if adapted_layers(model):
        raise KzooError(
            "The original library's format has no place for adapters: fold them into the kernels first, by "
            "kzoo.training.merge_lora(model), or write them alone, by kzoo.models.save_adapters(model, path)."
        )
    family, head, fields, stored = _published_form(model)
    with replacing(target) as folder:
        write_json(folder / "config.json", _config(model, family, head, fields))
        write_tensors(folder, stored)
        if model.tokenizer is not None:
            model.tokenizer.save(folder / "tokenizer.json")
            for name, content in model.tokenizer.companions().items():
                (folder / name).write_bytes(content)
            write_json(folder / "tokenizer_config.json", _tokenizer_config(model.tokenizer, model.max_length))
        if model.image_preprocessing is not None:
            write_json(folder / PREPROCESSOR_FILE, write_preprocessing(model.image_preprocessing))
        if model.task == "embedding":
            write_modules(model, folder)


def _refuse_other_contents(target: pathlib.Path) -> None:
    if target.is_file():
        raise KzooError(f"'{target}' is a file; a checkpoint is a folder: give another path.")
    others = (
        [path.name for path in target.iterdir() if not _OWN_FILES.fullmatch(path.name)]
        if target.is_dir()
        else []
    )
    if others:
        raise KzooError(
            f"'{target}' holds '{min(others)}', which is no part of a checkpoint and would be lost: give an empty or "
            "new folder."
        )


def _published_form(
    model: TransformerModel,
) -> tuple[Family, Head | None, dict[str, Any], dict[str, Pending]]:
    """Return the family and the head as which the model can be stored, its fields of config.json, and its tensors."""
    architecture = type(model.backbone).__name__
    families = [family for family in FAMILIES.values() if family.backbone == architecture]
    if not families:
        raise KzooError(
            f"There are no published checkpoints of kzoo's {architecture}, so there is no format to write: "
            "`model.save('model.keras')` keeps the model, and `kzoo.models.load` opens it."
        )
    knobs = model.backbone.config.knobs()
    problems = [f"The original library has no class for a {architecture} with task='{model.task}'."]
    for family in families:
        heads: list[Head | None] = list(family.heads_for(model.task))
        for head in [None] if model.task in ("features", "embedding") else heads:
            if head is not None and any(knobs[knob] != value for knob, value in head.knobs.items()):
                continue
            try:
                fields = family.config(knobs)
                _check_fields(model, family, head, fields)
                return family, head, fields, tensors.pending(model, family, head)
            except KzooError as error:
                problems.append(str(error))
    raise KzooError(problems[-1])


def _check_fields(model: TransformerModel, family: Family, head: Head | None, fields: dict[str, Any]) -> None:
    """Refuse a model that its config.json would not describe."""
    told = {**family.knobs(fields), **(head.knobs if head is not None else {})}
    again = type(model.backbone).Config(**told).knobs()
    told_by_tensors = {head.tie for head in family.heads}
    for knob, value in model.backbone.config.knobs().items():
        for_training = "drop" in knob or knob == "gradient_checkpointing"
        if again[knob] != value and knob not in told_by_tensors and not for_training:
            raise KzooError(
                f"The model has {knob}={value!r}, and the config.json of model_type='{family.model_type}' can only "
                f"say {again[knob]!r}. `model.save('model.keras')` keeps every model."
            )


def _config(
    model: TransformerModel, family: Family, head: Head | None, fields: dict[str, Any]
) -> dict[str, Any]:
    config = {
        "architectures": [head.architecture if head is not None else family.architecture],
        "model_type": family.model_type,
        **_token_ids(model),
        **fields,
    }
    if head is not None and head.has_classes:
        labels = model.labels or [f"LABEL_{index}" for index in range(model.num_classes or 1)]
        config["id2label"] = {str(index): label for index, label in enumerate(labels)}
        config["label2id"] = {label: index for index, label in enumerate(labels)}
        if head.task == "classification":
            config["problem_type"] = PROBLEM_TYPES[model.task]
    return config


def _token_ids(model: TransformerModel) -> dict[str, int | None]:
    tokenizer = model.tokenizer
    if tokenizer is None:
        return {}
    ids: dict[str, int | None] = {"pad_token_id": tokenizer.pad_id}
    if model.task in ("causal_lm", "seq2seq"):
        ids |= {"bos_token_id": tokenizer.start_id, "eos_token_id": tokenizer.end_id}
    if model.task == "seq2seq":
        ids["decoder_start_token_id"] = tokenizer.start_id
    return ids


def _tokenizer_config(tokenizer: Tokenizer, max_length: int | None) -> dict[str, Any]:
    """Return what the original library needs beside tokenizer.json: the roles of the special tokens."""

    def name(index: int | None) -> str | None:
        return None if index is None else tokenizer.decode([index], skip_special_tokens=False)

    def first(names: tuple[str, ...]) -> str | None:
        return next((token for token in names if tokenizer.token_id(token) is not None), None)

    start, end = name(tokenizer.start_id), name(tokenizer.end_id)
    roles = {
        "pad_token": name(tokenizer.pad_id),
        "unk_token": first(_UNKNOWN),
        "mask_token": name(tokenizer.mask_id),
        "cls_token" if start == "[CLS]" else "bos_token": start,
        "sep_token" if end == "[SEP]" else "eos_token": end,
    }
    return {
        "tokenizer_class": "MarianTokenizer" if tokenizer.companions() else "PreTrainedTokenizerFast",
        "model_max_length": max_length,
        "clean_up_tokenization_spaces": False,
        **{role: token for role, token in roles.items() if token is not None},
    }
