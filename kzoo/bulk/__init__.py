"""Bundles over whole files: cut into parts, gone on with after a stop, and counted."""

from kzoo.bulk.engines import Engine, LocalEngine, RayEngine
from kzoo.bulk.rows import Columns
from kzoo.bulk.running import Totals, run

__all__ = ["Columns", "Engine", "LocalEngine", "RayEngine", "Totals", "run"]
