"""Translate with kzoo: a worker of `benchmarks/translate.py`, `python translate_with_kzoo.py CASE BUNDLE`."""

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

    def translate(texts: list[str]) -> list[str]:
        results = pipeline(
            texts, num_beams=case.beams, batch_size=case.batch_size, max_new_tokens=case.steps or 128
        )
        return [result["translation"] for result in results]

    serve(case, translate, {name: version(name) for name in ("kzoo", "onnxruntime-gpu")})


if __name__ == "__main__":
    main()
