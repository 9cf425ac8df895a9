"""A published translator's folder, from text to text: what the original library's tokenizer and search give."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

import kzoo
from kzoo.errors import KzooError
from kzoo.models import from_pretrained
from tests.cli.commands import kzoo_command
from tests.models import references
from tests.optional import require
from tests.text import vocabularies

LIMIT = 24
# Pieces of the texts that the SentencePiece models know.
WORDS = [word for text in vocabularies.CORPUS for word in text.split()]
TEXTS = [" ".join(WORDS[start : start + 4]) for start in range(len(WORDS) - 4)]
# As opus-mt's generation_config.json has them, but for the lengths.
SETTINGS = {"forced_eos_token_id": 0, "max_length": LIMIT, "num_beams": 4, "renormalize_logits": True}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write a checkpoint with both SentencePiece models, and weights that write many different tokens."""
    torch = require("torch")
    path = vocabularies.write(tmp_path_factory.mktemp("opus-mt"), "marian")
    pad = json.loads((path / "vocab.json").read_text(encoding="utf-8"))["<pad>"]
    sides = {"layers": 2, "attention_heads": 4, "ffn_dim": 64}
    model = references.reference(
        "MarianMTModel",
        "MarianConfig",
        **{f"{side}_{name}": value for side in ("encoder", "decoder") for name, value in sides.items()},
        vocab_size=pad + 1,
        pad_token_id=pad,
        decoder_start_token_id=pad,
        eos_token_id=0,
        d_model=64,
        max_position_embeddings=64,
        scale_embedding=True,
        activation_function="swish",
    )
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "fc" in name or "out_proj.weight" in name:
                parameter.mul_(1.2 if "encoder_attn" in name else 0.3)
        table = model.model.shared.weight
        table.div_(table.norm(dim=1, keepdim=True) / 2)
        table[pad] = 0  # as in published ones, where its logit is therefore 0, and often the largest
        model.final_logits_bias.zero_()
        model.final_logits_bias[:, 0] = 4
    for name, value in {**SETTINGS, "bad_words_ids": [[pad]]}.items():
        setattr(model.generation_config, name, value)
    return references.save(model, path)


@pytest.fixture(scope="module")
def expected(folder: Path) -> tuple[list[str], np.ndarray]:
    """What the original library gives: texts, and their scores."""
    transformers = require("transformers")
    model = transformers.MarianMTModel.from_pretrained(folder)
    tokenizer = transformers.MarianTokenizer.from_pretrained(folder)
    inputs = tokenizer(TEXTS, return_tensors="pt", padding=True)
    found = model.generate(**inputs, num_beams=4, return_dict_in_generate=True, output_scores=True)
    rows = found.sequences.tolist()
    assert len({token for row in rows for token in row}) >= 50, "the reference says too little"
    ends = [row[1:].index(0) + 1 for row in rows]
    assert min(ends) < LIMIT - 1 == max(ends), "both kinds of ends are wanted: of itself, and at the limit"
    return tokenizer.batch_decode(found.sequences, skip_special_tokens=True), found.sequences_scores.numpy()


@pytest.mark.slow
@pytest.mark.backend
def test_text_to_text(folder: Path, expected: tuple[list[str], np.ndarray], tmp_path: Path) -> None:
    result = kzoo_command("export", folder, tmp_path / "bundle")
    assert result.exit_code == 0, result.stderr
    texts, scores = expected
    translate = kzoo.load(tmp_path / "bundle", device="cpu")
    found = translate(TEXTS, num_beams=4, max_new_tokens=LIMIT - 1)
    assert [result["translation"] for result in found] == texts
    np.testing.assert_allclose([result["score"] for result in found], scores, atol=1e-4)

    (tmp_path / "in").write_text("\n".join(TEXTS) + "\n", encoding="utf-8")
    files = ("--file", tmp_path / "in", "--output", tmp_path / "out")
    result = kzoo_command("predict", tmp_path / "bundle", *files, "--num-beams", 4)
    assert result.exit_code == 0, result.stderr
    whole = translate(TEXTS, num_beams=4)
    written = (tmp_path / "out").read_text(encoding="utf-8").split("\n")
    assert written == [*(result["translation"] for result in whole), ""]


@pytest.mark.backend
def test_what_it_says_of_decoding_is_kept_or_refused(folder: Path, tmp_path: Path) -> None:
    model = from_pretrained(folder)
    config = model.backbone.config
    assert (config.unwritten_id, config.forced_end_id) == (config.vocab_size - 1, 0)
    model.save_pretrained(tmp_path / "mine")
    assert from_pretrained(tmp_path / "mine").backbone.config == config
    theirs = require("transformers").MarianMTModel.from_pretrained(tmp_path / "mine").generation_config
    assert (theirs.forced_eos_token_id, theirs.bad_words_ids) == (0, [[config.vocab_size - 1]])

    settings = json.loads((folder / "generation_config.json").read_text())
    for changes, message in (
        ({"bad_words_ids": [[5], [6]]}, "kzoo can leave out one token"),
        ({"bad_words_ids": [[5]]}, "bad_words_ids=.*one unwritten_id for both"),
        ({"forced_eos_token_id": 3}, "token 3, but the tokenizer's end token is 0"),
    ):
        other = tmp_path / "other"
        other.mkdir(exist_ok=True)
        for file in folder.iterdir():
            (other / file.name).write_bytes(file.read_bytes())
        (other / "generation_config.json").write_text(json.dumps({**settings, **changes}))
        with pytest.raises(KzooError, match=message):
            from_pretrained(other)
