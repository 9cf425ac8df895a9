"""The errors a user meets: what was wrong, where, and how to mend it."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class KzooError(ValueError):
    """A mistake in what kzoo was given; its message says how to mend it. The command line prints it bare."""


class BundleError(KzooError):
    """A bundle that is missing, damaged, or not for this version of kzoo."""


class ExportError(KzooError):
    """A model that cannot be exported; nothing was written."""


class VerificationError(ExportError):
    """The exported graph and the Keras model disagree; nothing was written."""


class MissingDependencyError(KzooError, ImportError):
    """A package that this feature needs is not installed; the message names the extra that brings it."""


def did_you_mean(name: str, valid: Iterable[str]) -> str:
    """Return `" Did you mean 'bert_base'?"` for the nearest valid name, or the list of names if none is near.

    Example:
        >>> did_you_mean("bert_bsae", ["bert_base", "gpt2_small"])
        " Did you mean 'bert_base'?"
    """
    names = sorted(valid)
    near = difflib.get_close_matches(name, names, n=1, cutoff=0.6)
    if near:
        return f" Did you mean '{near[0]}'?"
    return f" Valid: {', '.join(names)}." if names else ""
