"""Where data lies."""

from __future__ import annotations

import os
from pathlib import Path

import platformdirs

from kzoo.errors import KzooError

# Files that ship with kzoo, found under `samples/`.
_PACKAGE = Path(__file__).parent


def locate(name: str | os.PathLike[str], beside: str | os.PathLike[str] | None = None) -> Path:
    """Find a data file or folder.

    A relative name is looked for in the folder `beside`, then in `$KZOO_DATA`, then in the user's cache; the
    samples that ship with kzoo are found as `samples/...`.

    Args:
        name: such as `"ag_news/test.csv.gz"`, or an absolute path.
        beside: the folder of the recipe that names it.

    Raises:
        KzooError: it is nowhere; the message says where it may be put.

    Example:
        >>> locate("samples/topics.csv").name
        'topics.csv'
    """
    path = Path(name)
    if path.is_absolute():
        if not path.exists():
            raise KzooError(f"There is no data at {path}.")
        return path
    shared, cache = os.environ.get("KZOO_DATA"), platformdirs.user_cache_path("kzoo") / "data"
    roots = [Path(beside)] if beside is not None else []
    # Only a recipe knows what lies above its folder.
    if ".." not in path.parts:
        roots += [Path(shared)] if shared else []
        roots += [cache]
        roots += [_PACKAGE] if path.parts[:1] == ("samples",) else []
    for root in roots:
        if (root / path).exists():
            return root / path
    if not roots:
        raise KzooError(f"'{path}' leads out of the data's folder; give a path without '..'.")
    home = roots[0] if ".." in path.parts else Path(shared or cache)
    hint = "" if shared or ".." in path.parts else ", or set KZOO_DATA to the folder that has it"
    raise KzooError(
        f"The data file '{path}' is missing. Put it at {home / path}{hint}. "
        f"Looked in: {', '.join(map(str, roots))}."
    )
