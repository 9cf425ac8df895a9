"""One comparison for all families: the reference's checkpoint into kzoo, its every output, and back again."""

from __future__ import annotations

import json
import warnings
from pathlib import Path
from typing import Any

import keras
import numpy as np

from kzoo.models import TransformerModel, from_pretrained
from tests.models import references
from tests.optional import require

TOLERANCE = 1e-4
BATCH, LENGTH, DECODER_LENGTH = 4, 17, 11
# Whole, shortest, and between.
LENGTHS = (17, 1, 9, 16)

# What the reference calls kzoo's outputs, where it has another name.
_NAMES = {
    "pooled": ("pooler_output",),
    "logits": ("prediction_logits",),
    "hidden_states": ("decoder_hidden_states",),
}


def check(
    folder: Path,
    model_class: str,
    fields: dict[str, Any],
    *,
    inputs: dict[str, np.ndarray] | None = None,
    names: dict[str, str | None] | None = None,
    unread: tuple[str, ...] = (),
    reference_inputs: dict[str, Any] | None = None,
    **options: Any,
) -> TransformerModel:
    """Compare a `transformers` class of random weights with kzoo, and write it back bit for bit.

    Args:
        folder: an empty folder.
        model_class: such as `"BertForMaskedLM"`.
        fields: of its config.
        inputs: by kzoo's names; made from the model's signature unless given.
        names: what the reference calls some of kzoo's outputs, where it is neither the same name nor an obvious one;
            None for what it does not return.
        unread: what the names of tensors begin with that kzoo has no variable for, and does not write.
        reference_inputs: what the reference needs besides.
        **options: of `from_pretrained`.

    Returns:
        kzoo's model.
    """
    transformers = require("transformers")
    config_class = getattr(transformers, model_class).config_class.__name__
    theirs = references.reference(model_class, config_class, **fields)
    references.save(theirs, folder / "theirs")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        ours = from_pretrained(folder / "theirs", **options)

    inputs = make_inputs(ours, theirs.config) if inputs is None else inputs
    expected = run(theirs, inputs, **(reference_inputs or {}))
    compare(ours, inputs, expected, names or {})
    check_written(ours, theirs, folder / "ours", inputs, expected, unread, reference_inputs or {})
    return ours


def make_inputs(model: TransformerModel, config: Any) -> dict[str, np.ndarray]:
    """Return a batch padded on the right, of ids that mean nothing special, by the model's signature."""
    rng = np.random.default_rng(1)
    sizes = {"batch": BATCH, "sequence": LENGTH, "decoder_sequence": DECODER_LENGTH}
    mask = (np.arange(LENGTH)[None] < np.array(LENGTHS)[:, None]).astype("int64")
    inputs: dict[str, np.ndarray] = {}
    for name, spec in model.signature().items():
        shape = tuple(sizes[size] if isinstance(size, str) else size for size in spec.shape)
        if name == "attention_mask":
            inputs[name] = mask
        elif name == "token_type_ids":
            inputs[name] = rng.integers(0, config.type_vocab_size, shape)
        elif spec.dtype == "int64":
            ids = rng.integers(4, model.backbone.config.vocab_size, shape)
            padding = getattr(config, "pad_token_id", None) or 0
            inputs[name] = np.where(mask == 1, ids, padding) if name == "input_ids" else ids
        else:
            inputs[name] = rng.normal(size=shape).astype("float32")
    return inputs


def run(theirs: Any, inputs: dict[str, np.ndarray], **others: Any) -> dict[str, Any]:
    """Return the reference's outputs by name, hidden states as lists."""
    torch = require("torch")
    given = {
        name: torch.as_tensor(value.transpose(0, 3, 1, 2) if name == "pixel_values" else value)
        for name, value in inputs.items()
    }
    with torch.no_grad():
        outputs = theirs(**given, **others, output_hidden_states=True)
    return {
        name: [state.numpy() for state in value] if isinstance(value, tuple) else value.numpy()
        for name, value in outputs.items()
        if hasattr(value, "numpy") or (name.endswith("hidden_states") and value)
    }


def compare(
    ours: TransformerModel,
    inputs: dict[str, np.ndarray],
    expected: dict[str, Any],
    names: dict[str, str | None],
) -> None:
    """Compare every output, and every hidden state, where there is no padding."""
    mask = inputs.get("attention_mask")
    features = ours.backbone(inputs)
    for name, value in ours(inputs).items():
        if names.get(name, name) is None:
            continue
        theirs = _named(name, expected, names)
        assert theirs is not None, f"the reference returns {sorted(expected)}, and nothing for '{name}'"
        assert_same(value, theirs, mask)
    for name in ("last_hidden_state", "encoder_last_hidden_state", "pooled"):
        if name in features and (theirs := _named(name, expected, names)) is not None:
            assert_same(features[name], theirs, mask)
    for name in ("hidden_states", "encoder_hidden_states"):
        theirs = _named(name, expected, names)
        if theirs is None:
            continue
        *states, last = features[name]
        *their_states, their_last = theirs
        assert len(states) == len(their_states)
        for state, their_state in zip(states, their_states, strict=True):
            assert_same(state, their_state, mask)
        # Some references normalise the last one.
        final = "encoder_last_hidden_state" if name.startswith("encoder") else "last_hidden_state"
        normed = features.get(final, last)
        is_normed = not _close(last, their_last, mask)
        assert_same(normed if is_normed else last, their_last, mask)


def check_written(
    ours: TransformerModel,
    theirs: Any,
    folder: Path,
    inputs: dict[str, np.ndarray],
    expected: dict[str, Any],
    unread: tuple[str, ...],
    reference_inputs: dict[str, Any],
) -> None:
    """Write kzoo's model, open it with the reference, and compare tensors bit for bit, and outputs."""
    ours.save_pretrained(folder)
    architecture = json.loads((folder / "config.json").read_text())["architectures"][0]
    again, told = getattr(require("transformers"), architecture).from_pretrained(
        folder, output_loading_info=True
    )
    assert not told["unexpected_keys"], told
    assert (
        all(name.startswith(unread) for name in told["missing_keys"]) if unread else not told["missing_keys"]
    )
    before, after = theirs.state_dict(), again.state_dict()
    compared = 0
    for name, tensor in before.items():
        # A class without a head calls its tensors the same, less the prefix.
        twin = name if name in after else name.removeprefix(f"{theirs.base_model_prefix}.")
        if twin in after and not (unread and twin.startswith(unread)):
            np.testing.assert_array_equal(after[twin].numpy(), tensor.numpy(), err_msg=name)
            compared += 1
    assert compared >= len(ours.weights) // 2, "too few of the tensors have the same names"
    if type(again) is type(theirs) and not unread:
        outputs = run(again.eval(), inputs, **reference_inputs)
        for name, value in expected.items():
            if not isinstance(value, list):
                np.testing.assert_allclose(outputs[name], value, rtol=0, atol=1e-6)


def _named(name: str, expected: dict[str, Any], names: dict[str, str | None]) -> Any:
    candidates = (names[name],) if name in names else (*_NAMES.get(name, ()), name)
    return next((expected[candidate] for candidate in candidates if candidate in expected), None)


def _real(array: np.ndarray, mask: np.ndarray | None) -> np.ndarray:
    """Return the rows of real tokens, where the array has an axis of tokens."""
    if mask is not None and array.ndim >= 2 and array.shape[:2] == mask.shape:
        return array[mask == 1]
    return array


def _close(ours: Any, theirs: np.ndarray, mask: np.ndarray | None) -> bool:
    ours = keras.ops.convert_to_numpy(ours)
    return np.allclose(_real(ours, mask), _real(theirs, mask), rtol=0, atol=TOLERANCE)


def assert_same(ours: Any, theirs: np.ndarray, mask: np.ndarray | None = None) -> None:
    """Compare arrays of float32, which must say something."""
    ours = keras.ops.convert_to_numpy(ours)
    assert ours.shape == theirs.shape
    ours, theirs = _real(ours, mask), _real(theirs, mask)
    assert np.std(theirs) > 0.05, "the reference says too little to compare with"
    np.testing.assert_allclose(ours, theirs, rtol=0, atol=TOLERANCE)
