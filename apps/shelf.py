"""Find bundles on disk and open them, keeping the good ones when some are damaged."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from kzoo.errors import BundleError, KzooError
from kzoo.runtime.manifest import MANIFEST_FILE

if TYPE_CHECKING:
    from kzoo.runtime import Pipeline

DEFAULT_FOLDERS = ("models", "bundles")


@dataclass(frozen=True)
class Shelf:
    """What could be opened, and why the rest could not.

    Attributes:
        pipelines: by the name in their manifest, in the order given.
        failures: messages, by the folder's name.
    """

    pipelines: dict[str, Pipeline]
    failures: dict[str, str]

    def serving(self, tasks: Iterable[str]) -> list[Pipeline]:
        """Return the pipelines for any of these tasks."""
        wanted = frozenset(tasks)
        return [pipeline for pipeline in self.pipelines.values() if pipeline.task in wanted]


def find_bundles(folders: Sequence[str | os.PathLike[str]] | None = None) -> list[Path]:
    """List the bundles in some folders.

    Args:
        folders: each a bundle, or a folder that holds bundles as `NAME/` or `NAME/bundle/`. Without it,
            `models` and `bundles` of the working directory, where they exist.

    Returns:
        Their paths, in the order of `folders`, sorted within each, every bundle once.

    Raises:
        KzooError: if a folder that was named does not exist.

    Example:
        >>> find_bundles([])
        []
    """
    if folders is None:
        roots = [Path(name) for name in DEFAULT_FOLDERS if Path(name).is_dir()]
    else:
        roots = [Path(folder) for folder in folders]
    found: dict[Path, Path] = {}
    for root in roots:
        if not root.is_dir():
            raise KzooError(f"There is no folder {root} to look for bundles in.")
        for bundle in _bundles_in(root):
            found.setdefault(bundle.resolve(), bundle)
    return list(found.values())


def _bundles_in(root: Path) -> list[Path]:
    if (root / MANIFEST_FILE).is_file():
        return [root]
    # A name that starts with a dot is a bundle that is still being written.
    children = sorted(child for child in root.iterdir() if child.is_dir() and not child.name.startswith("."))
    candidates = [place for child in children for place in (child, child / "bundle")]
    return [place for place in candidates if (place / MANIFEST_FILE).is_file()]


def open_bundles(bundles: Iterable[str | os.PathLike[str] | Pipeline], threads: int | None = None) -> Shelf:
    """Load each bundle, for all cores unless `threads` says less; one that cannot be loaded becomes a message."""
    from kzoo.runtime import Pipeline, load

    pipelines: dict[str, Pipeline] = {}
    failures: dict[str, str] = {}
    for bundle in bundles:
        where = bundle.name if isinstance(bundle, Pipeline) else _folder_name(Path(bundle))
        try:
            pipeline = bundle if isinstance(bundle, Pipeline) else load(bundle, threads=threads)
            if pipeline.name in pipelines:
                raise BundleError(
                    f"Another bundle is named '{pipeline.name}' too; export one of them under another name."
                )
        except KzooError as error:
            failures[where] = str(error)
        else:
            pipelines[pipeline.name] = pipeline
    return Shelf(pipelines, failures)


def _folder_name(path: Path) -> str:
    resolved = path.resolve()
    return resolved.parent.name if resolved.name == "bundle" else resolved.name
