"""Training: default optimizer, objectives, and the batches that `fit` feeds on."""

from kzoo.training.distillation import Distillation
from kzoo.training.freezing import GradualUnfreezing, count_trainable, freeze, layer_depths, unfreeze
from kzoo.training.fused_adamw import exclude_from_weight_decay
from kzoo.training.imitation import map_layers
from kzoo.training.lora import add_lora, merge_lora
from kzoo.training.losses import ClassAccuracy, ClassLoss, SmoothedTokenLoss
from kzoo.training.masked_images import MaskedImages
from kzoo.training.masking import Masking
from kzoo.training.objectives import TokenAccuracy, token_loss
from kzoo.training.optimizers import (
    InverseSquareRoot,
    LayeredAdamW,
    cosine_schedule,
    default_learning_rate,
    default_optimizer,
    make_optimizer,
)
from kzoo.training.packing import MaskedBatches, PackedBatches
from kzoo.training.pruning import Pruning, prune
from kzoo.training.replaced_tokens import ReplacedTokenDetection
from kzoo.training.token_batches import Position, TokenBatches, compiles_each_shape

__all__ = [
    "ClassAccuracy",
    "ClassLoss",
    "Distillation",
    "GradualUnfreezing",
    "InverseSquareRoot",
    "LayeredAdamW",
    "MaskedBatches",
    "MaskedImages",
    "Masking",
    "PackedBatches",
    "Position",
    "Pruning",
    "ReplacedTokenDetection",
    "SmoothedTokenLoss",
    "TokenAccuracy",
    "TokenBatches",
    "add_lora",
    "compiles_each_shape",
    "cosine_schedule",
    "count_trainable",
    "default_learning_rate",
    "default_optimizer",
    "exclude_from_weight_decay",
    "freeze",
    "layer_depths",
    "make_optimizer",
    "map_layers",
    "merge_lora",
    "prune",
    "token_loss",
    "unfreeze",
]
