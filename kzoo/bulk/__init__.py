"""Bundles over whole files: cut into parts, gone on with after a stop, and counted."""

from kzoo.bulk.rows import Columns
from kzoo.bulk.running import Totals, run

__all__ = ["Columns", "Totals", "run"]
