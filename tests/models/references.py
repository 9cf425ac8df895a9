"""Reference models in torch with random weights, and checkpoints of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from tests.optional import require


def reference(model_class: str, config_class: str, **fields: Any) -> Any:
    """Return a `transformers` model in evaluation mode whose every parameter matters.

    Freshly made, biases are 0, norms 1 and all else so small that a forgotten one would not show.
    """
    torch, transformers = require("torch"), require("transformers")
    torch.manual_seed(0)
    model = getattr(transformers, model_class)(getattr(transformers, config_class)(**fields))
    shake(model)
    return model.eval()


def shake(module: Any) -> None:
    """Move whatever a torch module stores, but for frozen tables, away from where it starts."""
    torch = require("torch")
    stored = module.state_dict().keys()
    learned = [parameter for parameter in module.parameters() if parameter.requires_grad]
    buffers = [
        value for name, value in module.named_buffers() if name in stored and value.is_floating_point()
    ]
    with torch.no_grad():
        for tensor in learned + buffers:
            tensor.add_(torch.randn_like(tensor) * 0.25)


def save(model: Any, directory: Path) -> Path:
    """Write a checkpoint: config.json and model.safetensors."""
    model.save_pretrained(directory)
    return directory


def run(model: Any, **inputs: np.ndarray) -> dict[str, np.ndarray]:
    """Return a torch model's outputs by name."""
    torch = require("torch")
    with torch.no_grad():
        outputs = model(**{name: torch.as_tensor(value) for name, value in inputs.items()})
    return {name: value.numpy() for name, value in outputs.items() if hasattr(value, "numpy")}
