"""Put what a benchmark measured into the README, between two marks of its own."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parents[1]


def replace_block(name: str, block: str) -> None:
    """Replace what stands between `<!-- name:begin -->` and `<!-- name:end -->` in the README."""
    readme = ROOT / "README.md"
    text, count = re.subn(
        rf"(?<=<!-- {name}:begin -->\n).*?(?=<!-- {name}:end -->)",
        lambda match: f"{block}\n",
        readme.read_text(encoding="utf-8"),
        flags=re.DOTALL,
    )
    if count != 1:
        raise SystemExit(f"README.md lacks its marks, <!-- {name}:begin --> and <!-- {name}:end -->.")
    readme.write_text(text, encoding="utf-8")
