"""What all tests share: a quiet environment and a small tokenizer of each kind."""

from __future__ import annotations

import os

# Read when the libraries are imported, so before anything else here.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
os.environ.setdefault("TQDM_DISABLE", "1")
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
# JAX compiles in half the time, and tiny models run no slower.
os.environ.setdefault("XLA_FLAGS", "--xla_backend_optimization_level=0")

import pytest

from kzoo.text import Tokenizer

SENTENCES = [
    "The dog runs in the park.",
    "A cat sleeps on the old sofa.",
    "Two birds sing in the tree.",
    "The bank sold its shares.",
]


@pytest.fixture(scope="session")
def wordpiece() -> Tokenizer:
    """A tokenizer as encoders use it; `[PAD]` is 0."""
    return Tokenizer.train(SENTENCES, kind="wordpiece", vocab_size=200)


@pytest.fixture(scope="session")
def bpe() -> Tokenizer:
    """A tokenizer as decoders use it; `<pad>` is 0, `<s>` 1, `</s>` 2."""
    return Tokenizer.train(SENTENCES, kind="bpe", vocab_size=300)
