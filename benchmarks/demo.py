"""Put the table and the picture of a real `kzoo demo` into the README: `python benchmarks/demo.py`."""

from __future__ import annotations

import json
import shutil

from readme import ROOT, replace_block
from rich.console import Console

from kzoo.data import digits
from kzoo.recipes.demo import DemoResult, run_demo, table_rows

PICTURE = ROOT / "docs" / "images" / "demo.png"


def block(result: DemoResult) -> str:
    """Return what stands between the README's two marks."""
    run = json.loads((result.directory / "run.json").read_text(encoding="utf-8"))["environment"]
    versions = ", ".join(f"{name} {version}" for name, version in run["versions"].items())
    rows = "\n".join(f"| {' | '.join(row)} |" for row in table_rows(result.comparison, len(digits()[1])))
    return (
        f"| handwritten digits | Keras | ONNX Runtime |\n|---|---:|---:|\n{rows}\n\n"
        f"`kzoo demo`, from start to table {result.seconds:.0f} s, on {run['started'][:10]}, {run['hardware']}, "
        f"with {versions}. Keras is timed through `predict_on_batch`, the two in turn.\n\n"
        f"![Learning curve, test digits with predictions, and attention maps]({PICTURE.relative_to(ROOT)})"
    )


def main() -> None:
    """Run the demo, and replace the block."""
    result = run_demo(Console())
    replace_block("demo", block(result))
    PICTURE.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(result.picture, PICTURE)


if __name__ == "__main__":
    main()
