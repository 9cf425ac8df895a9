"""The sessions of a bundle's graphs, those that few ask for opened when first asked for."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping

from kzoo.runtime.manifest import EXPLANATION
from kzoo.runtime.session import Session


class Sessions(Mapping[str, Session]):
    """Sessions by the roles of their graphs; that of explanations is opened late. Safe to use from many threads.

    Args:
        openers: what opens each session, by role.
    """

    def __init__(self, openers: Mapping[str, Callable[[], Session]]) -> None:
        self._openers = openers
        self._lock = threading.Lock()
        self._opened = {role: opener() for role, opener in openers.items() if role != EXPLANATION}

    def __getitem__(self, role: str) -> Session:
        with self._lock:
            if role not in self._opened:
                self._opened[role] = self._openers[role]()
            return self._opened[role]

    def __iter__(self) -> Iterator[str]:
        return iter(self._openers)

    def __len__(self) -> int:
        return len(self._openers)

    def __contains__(self, role: object) -> bool:
        return role in self._openers
