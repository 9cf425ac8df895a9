"""What pipelines give, for those who write it down."""

from __future__ import annotations

from typing import Any


def plain(results: Any) -> Any:
    """Return results as JSON can hold them.

    Example:
        >>> import numpy as np
        >>> plain([{"label": "a", "vector": np.ones(2)}])
        [{'label': 'a', 'vector': [1.0, 1.0]}]
    """
    if hasattr(results, "tolist"):
        return results.tolist()
    if isinstance(results, dict):
        return {key: plain(value) for key, value in results.items()}
    return [plain(value) for value in results] if isinstance(results, list) else results
