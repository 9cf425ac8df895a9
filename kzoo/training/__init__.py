"""Training: default optimizer, objectives, and the batches that `fit` feeds on."""

from kzoo.training.losses import SmoothedTokenLoss
from kzoo.training.objectives import TokenAccuracy, token_loss
from kzoo.training.optimizers import (
    InverseSquareRoot,
    cosine_schedule,
    default_learning_rate,
    default_optimizer,
    exclude_from_weight_decay,
    make_optimizer,
)
from kzoo.training.pruning import Pruning, prune
from kzoo.training.token_batches import Position, TokenBatches, compiles_each_shape

__all__ = [
    "InverseSquareRoot",
    "Position",
    "Pruning",
    "SmoothedTokenLoss",
    "TokenAccuracy",
    "TokenBatches",
    "compiles_each_shape",
    "cosine_schedule",
    "default_learning_rate",
    "default_optimizer",
    "exclude_from_weight_decay",
    "make_optimizer",
    "prune",
    "token_loss",
]
