"""Classify with kzoo: a worker of `benchmarks/classification.py`, `python classify_with_kzoo.py CASE BUNDLE`."""

from __future__ import annotations

import sys
from importlib.metadata import version

from turns import Case, serve

import kzoo


def main() -> None:
    """Take turns."""
    path, bundle = sys.argv[1:]
    case = Case.read(path)
    pipeline = kzoo.load(bundle, device="cpu", threads=case.threads)

    def classify(texts: list[str]) -> list[str]:
        return [result["label"] for result in pipeline(texts, batch_size=case.batch_size)]

    serve(case, classify, {name: version(name) for name in ("kzoo", "onnxruntime-gpu")})


if __name__ == "__main__":
    main()
