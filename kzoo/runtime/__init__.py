"""Bundles in production: ONNX Runtime, numpy, and no training framework."""

from kzoo.runtime.bundle import Bundle, hash_file
from kzoo.runtime.ensemble import Ensemble
from kzoo.runtime.inputs import TruncationWarning
from kzoo.runtime.manifest import Manifest
from kzoo.runtime.pipeline import Pipeline
from kzoo.runtime.session import Session, open_session
from kzoo.runtime.tasks import TASKS, load

__all__ = [
    "TASKS",
    "Bundle",
    "Ensemble",
    "Manifest",
    "Pipeline",
    "Session",
    "TruncationWarning",
    "hash_file",
    "load",
    "open_session",
]
