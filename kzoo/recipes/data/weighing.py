"""How much each training example counts."""

from __future__ import annotations

from collections import Counter

import numpy as np

from kzoo.errors import KzooError, did_you_mean
from kzoo.recipes.data.parts import Parts
from kzoo.recipes.schema.sections import TrainingSection


def example_weights(training: TrainingSection, parts: Parts) -> np.ndarray | None:
    """Return a weight for each training example, float32 (examples,), or None if all count the same.

    Balanced weights are inversely proportional to how often the class comes up, and 1 on average.

    Raises:
        KzooError: the recipe weighs a class that there is not.
    """
    wanted = training.class_weights
    if wanted is None:
        return None
    counts = Counter(parts.train.targets)
    if wanted == "balanced":
        weights = {name: len(parts.train) / (len(counts) * count) for name, count in counts.items()}
    else:
        weights = dict(wanted)
        for name in weights:
            if name not in (parts.labels or ()):
                hint = did_you_mean(name, parts.labels or ())
                raise KzooError(f"training.class_weights: '{name}' is none of the classes.{hint}")
    return np.array([weights.get(name, 1.0) for name in parts.train.targets], np.float32)
