"""Where a checkpoint comes from: a folder here, an installed package, or the Hugging Face hub."""

from __future__ import annotations

import importlib.util
import os
import re
from pathlib import Path

from kzoo.errors import KzooError, MissingDependencyError

# What `from_pretrained` reads, and nothing else; never a pickle.
_WANTED = [
    *("config.json", "generation_config.json", "preprocessor_config.json"),
    *("model.safetensors", "model-*-of-*.safetensors", "model.safetensors.index.json"),
    *("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json"),
    *("vocab.txt", "vocab.json", "merges.txt", "spiece.model", "sentencepiece.bpe.model", "tokenizer.model"),
    *("source.spm", "target.spm"),
    *("modules.json", "sentence_bert_config.json", "config_sentence_transformers.json"),
]
_FOLDERS = ["0_Transformer", "1_Pooling", "2_Normalize"]
_NAME = re.compile(r"[A-Za-z0-9][\w.-]*(/[A-Za-z0-9][\w.-]*)?", re.ASCII)
# What stands before the name of a package that carries one.
PACKAGE = "package:"
_MODULE = re.compile(r"[A-Za-z_]\w*", re.ASCII)


def find_checkpoint(source: str | os.PathLike[str], revision: str | None = None) -> Path:
    """Return the folder of a checkpoint, downloaded if it is named by its name on the hub.

    Args:
        source: a folder; `package:MODULE`, whose folder is found without running its code; or a name on the hub such
            as `"google/bert_uncased_L-2_H-128_A-2"`.
        revision: a branch, tag or commit on the hub; given, `source` is a name there.

    Raises:
        KzooError: there is no such folder, or a package holds none, or several; or the hub does not have it, or
            cannot be reached.
    """
    if str(source).startswith(PACKAGE):
        if revision is not None:
            raise KzooError(
                f"revision='{revision}' is for a name on the hub; '{source}' is an installed package."
            )
        return _in_package(str(source).removeprefix(PACKAGE))
    path = Path(source)
    if path.is_dir() and revision is None:
        return path
    if path.is_file():
        raise KzooError(
            f"'{source}' is a file; a checkpoint is a folder: give the one that config.json stands in."
        )
    is_name = isinstance(source, str) and _NAME.fullmatch(source) is not None
    # A mistyped folder is not asked for on the network.
    if not is_name or (revision is None and "/" in str(source) and path.parent.is_dir()):
        raise KzooError(
            f"There is no folder '{source}'. A checkpoint is a folder that holds config.json and model.safetensors, "
            "or a name on the Hugging Face hub, 'owner/name'."
        )
    return _download(str(source), revision)


def _in_package(module: str) -> Path:
    if _MODULE.fullmatch(module) is None:
        raise KzooError(f"'package:{module}': a package is named as in `import NAME`.")
    # Of a name without dots, this looks only where it is.
    found = importlib.util.find_spec(module)
    if found is None or not found.submodule_search_locations:
        raise KzooError(
            f"'package:{module}': there is no such package here. Install the one that carries the checkpoint; pip "
            f"often knows it as '{module.replace('_', '-')}'."
        )
    folders = {
        file.parent for root in found.submodule_search_locations for file in Path(root).rglob("*.safetensors")
    }
    whole = sorted(folder for folder in folders if (folder / "config.json").is_file())
    if len(whole) != 1:
        listed = ", ".join(map(str, whole)) or "none"
        raise KzooError(
            f"'package:{module}': the package holds {len(whole)} folders with config.json and safetensors files "
            f"({listed}). One is needed: give its path."
        )
    return whole[0]


def _download(name: str, revision: str | None) -> Path:
    try:
        import huggingface_hub
    except ImportError as error:
        raise MissingDependencyError(
            f"There is no folder '{name}', and fetching it from the hub needs huggingface_hub: pip install "
            "'kzoo[train]'."
        ) from error
    errors = huggingface_hub.errors
    wanted = _WANTED + [f"{folder}/{file}" for folder in _FOLDERS for file in _WANTED]
    at = f" at revision '{revision}'" if revision is not None else ""
    try:
        return Path(huggingface_hub.snapshot_download(name, revision=revision, allow_patterns=wanted))
    except errors.RevisionNotFoundError:
        raise KzooError(f"The hub has '{name}', but nothing{at}: name a branch, a tag or a commit.") from None
    except errors.GatedRepoError:
        raise KzooError(
            f"The hub gives '{name}' only to those who accepted its terms: accept them on its page, then log in with "
            "`hf auth login`."
        ) from None
    except errors.RepositoryNotFoundError:
        raise KzooError(
            f"There is no folder '{name}', and the hub has nothing of that name, or keeps it private: check the "
            "spelling, or log in with `hf auth login`."
        ) from None
    except (OSError, ValueError) as error:
        first = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise KzooError(
            f"There is no folder '{name}', and '{name}'{at} cannot be fetched from the hub ({first}). Where there is "
            f"no network, run `hf download {name} --local-dir FOLDER` elsewhere, and give the folder."
        ) from None
