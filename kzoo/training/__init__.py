"""Training: default optimizer, objectives, and the batches that `fit` feeds on."""

from kzoo.training.objectives import TokenAccuracy, token_loss
from kzoo.training.optimizers import default_learning_rate, default_optimizer, exclude_from_weight_decay
from kzoo.training.pruning import Pruning, prune

__all__ = [
    "Pruning",
    "TokenAccuracy",
    "default_learning_rate",
    "default_optimizer",
    "exclude_from_weight_decay",
    "prune",
    "token_loss",
]
