"""The zoo: architectures, their variants, and the model that carries a task.

Example:
    >>> import kzoo
    >>> model = kzoo.models.bert_tiny(num_classes=4)
    >>> model.num_classes
    4
"""

from __future__ import annotations

import os
import pathlib
import zipfile

from kzoo.errors import KzooError, MissingDependencyError

try:
    import keras
except (ImportError, ValueError) as error:
    raise MissingDependencyError(
        f"kzoo.models needs Keras and its backend ({error}): pip install 'kzoo[train]' for TensorFlow; "
        "'kzoo[jax]' or 'kzoo[torch]' for another one, with KERAS_BACKEND set to jax or torch."
    ) from error

from kzoo.models.adapters import load_adapters, save_adapters
from kzoo.models.albert import Albert, AlbertConfig, albert_base_v2
from kzoo.models.backbone import Backbone, Config, InputSpec
from kzoo.models.bart import Bart, BartConfig, bart_base
from kzoo.models.base import TransformerModel
from kzoo.models.bert import (
    Bert,
    BertConfig,
    bert_base,
    bert_base_cased,
    bert_large,
    bert_large_cased,
    bert_medium,
    bert_mini,
    bert_small,
    bert_tiny,
    minilm_l6_h384,
    minilm_l12_h384,
)
from kzoo.models.cct import (
    CCT,
    CCTConfig,
    cct_2_3x2_32,
    cct_7_3x1_32,
    cct_7_7x2_224,
)
from kzoo.models.clip import (
    CLIP,
    CLIPConfig,
    clip_base_patch16,
    clip_base_patch32,
)
from kzoo.models.deit import (
    DeiT,
    DeiTConfig,
    deit_base_distilled_patch16_224,
    deit_base_patch16_224,
    deit_small_distilled_patch16_224,
    deit_small_patch16_224,
    deit_tiny_distilled_patch16_224,
    deit_tiny_patch16_224,
)
from kzoo.models.distilbert import DistilBert, DistilBertConfig, distilbert_base
from kzoo.models.electra import Electra, ElectraConfig, electra_base, electra_small
from kzoo.models.gpt2 import GPT2, GPT2Config, gpt2_large, gpt2_medium, gpt2_small, gpt2_xl
from kzoo.models.llama import Llama, LlamaConfig, llama_3_2_1b, llama_micro, qwen2_0_5b, tinyllama_1_1b
from kzoo.models.marian import Marian, MarianConfig, marian_base
from kzoo.models.pretrained import from_pretrained
from kzoo.models.registry import build, create_model, get_variant, list_models, register_model
from kzoo.models.retasking import with_task
from kzoo.models.roberta import Roberta, RobertaConfig, roberta_base, roberta_large, xlm_roberta_base
from kzoo.models.students import prune_units, prune_vocabulary, take_weights
from kzoo.models.t5 import T5, T5Config, t5_base, t5_small, t5_v1_1_base, t5_v1_1_small
from kzoo.models.tasks import TASKS, Task
from kzoo.models.transformer import (
    Transformer,
    TransformerConfig,
    transformer_base,
    transformer_big,
    transformer_tiny,
)
from kzoo.models.vit import (
    ViT,
    ViTConfig,
    vit_base_patch16_224,
    vit_base_patch16_384,
    vit_base_patch32_224,
    vit_base_patch32_384,
    vit_huge_patch14_224,
    vit_large_patch16_224,
    vit_large_patch16_384,
    vit_large_patch32_224,
    vit_large_patch32_384,
    vit_micro_patch4_32,
    vit_small_patch16_224,
    vit_small_patch32_224,
    vit_tiny_patch16_224,
)

__all__ = [
    "CCT",
    "CLIP",
    "GPT2",
    "T5",
    "TASKS",
    "Albert",
    "AlbertConfig",
    "Backbone",
    "Bart",
    "BartConfig",
    "Bert",
    "BertConfig",
    "CCTConfig",
    "CLIPConfig",
    "Config",
    "DeiT",
    "DeiTConfig",
    "DistilBert",
    "DistilBertConfig",
    "Electra",
    "ElectraConfig",
    "GPT2Config",
    "InputSpec",
    "Llama",
    "LlamaConfig",
    "Marian",
    "MarianConfig",
    "Roberta",
    "RobertaConfig",
    "T5Config",
    "Task",
    "Transformer",
    "TransformerConfig",
    "TransformerModel",
    "ViT",
    "ViTConfig",
    "albert_base_v2",
    "bart_base",
    "bert_base",
    "bert_base_cased",
    "bert_large",
    "bert_large_cased",
    "bert_medium",
    "bert_mini",
    "bert_small",
    "bert_tiny",
    "build",
    "cct_2_3x2_32",
    "cct_7_3x1_32",
    "cct_7_7x2_224",
    "clip_base_patch16",
    "clip_base_patch32",
    "create_model",
    "deit_base_distilled_patch16_224",
    "deit_base_patch16_224",
    "deit_small_distilled_patch16_224",
    "deit_small_patch16_224",
    "deit_tiny_distilled_patch16_224",
    "deit_tiny_patch16_224",
    "distilbert_base",
    "electra_base",
    "electra_small",
    "from_pretrained",
    "get_variant",
    "gpt2_large",
    "gpt2_medium",
    "gpt2_small",
    "gpt2_xl",
    "list_models",
    "llama_3_2_1b",
    "llama_micro",
    "load",
    "load_adapters",
    "marian_base",
    "minilm_l6_h384",
    "minilm_l12_h384",
    "prune_units",
    "prune_vocabulary",
    "qwen2_0_5b",
    "register_model",
    "roberta_base",
    "roberta_large",
    "save_adapters",
    "t5_base",
    "t5_small",
    "t5_v1_1_base",
    "t5_v1_1_small",
    "take_weights",
    "tinyllama_1_1b",
    "transformer_base",
    "transformer_big",
    "transformer_tiny",
    "vit_base_patch16_224",
    "vit_base_patch16_384",
    "vit_base_patch32_224",
    "vit_base_patch32_384",
    "vit_huge_patch14_224",
    "vit_large_patch16_224",
    "vit_large_patch16_384",
    "vit_large_patch32_224",
    "vit_large_patch32_384",
    "vit_micro_patch4_32",
    "vit_small_patch16_224",
    "vit_small_patch32_224",
    "vit_tiny_patch16_224",
    "with_task",
    "xlm_roberta_base",
]


def load(path: str | os.PathLike[str]) -> TransformerModel:
    """Open a model saved as a `.keras` file, weights, tokenizer and optimizer with it.

    Raises:
        KzooError: there is no such file, or it is not a whole `.keras` file.
    """
    file = pathlib.Path(path)
    if not file.is_file():
        raise KzooError(f"There is no file '{file}'. `model.save('model.keras')` writes one.")
    if not zipfile.is_zipfile(file):
        raise KzooError(f"'{file}' is not a whole .keras file: it was cut short, or is something else.")
    return keras.saving.load_model(file)
