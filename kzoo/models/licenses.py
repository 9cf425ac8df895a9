"""Under what licence each variant's published weights stand; what counts is what their publisher says."""

from __future__ import annotations

import fnmatch

NONE_PUBLISHED = "none published"

# Shell patterns of variants' names; the first that matches counts. A variant that none matches has no published
# weights that load into it.
LICENSES: dict[str, str] = {
    "albert_*": "Apache-2.0",
    "bart_*": "Apache-2.0",
    "bert_*": "Apache-2.0",
    "cct_*": "Apache-2.0",
    "clip_*": "MIT",
    "deit_*": "Apache-2.0",
    "distilbert_*": "Apache-2.0",
    "electra_*": "Apache-2.0",
    "gpt2_*": "MIT",
    "llama_micro": NONE_PUBLISHED,
    "llama_3_2_*": "Llama 3.2 Community",
    "marian_*": "varies by language pair",
    "minilm_l6_h384": "Apache-2.0",  # all-MiniLM-L6-v2
    "minilm_l12_h384": "MIT",  # MiniLM-L12-H384-uncased
    "qwen2_0_5b": "Apache-2.0",
    "roberta_*": "MIT",
    "t5_*": "Apache-2.0",
    "tinyllama_*": "Apache-2.0",
    "vit_micro_*": NONE_PUBLISHED,
    "vit_*": "Apache-2.0",
    "xlm_roberta_*": "MIT",
}


def license_of(variant: str) -> str:
    """Return the licence of a variant's published weights, an SPDX identifier where there is one.

    Example:
        >>> license_of("gpt2_small")
        'MIT'
    """
    patterns = (pattern for pattern in LICENSES if fnmatch.fnmatchcase(variant, pattern))
    return LICENSES.get(next(patterns, ""), NONE_PUBLISHED)
