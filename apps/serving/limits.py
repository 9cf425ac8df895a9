"""What one client may ask of the service, and how long anybody waits."""

from __future__ import annotations

from dataclasses import dataclass, fields

from kzoo.errors import KzooError


@dataclass(frozen=True)
class Limits:
    """The service's limits; each is a flag of `kzoo serve`.

    Attributes:
        max_bytes: of a request's body; larger ones get status 413.
        max_items: texts or images of a request; more get 422.
        max_tokens: of a text; longer ones get 422. Between what the model takes and this a text is cut, and the
            answer says so.
        max_queue: items that wait for a bundle; beyond it requests get 429 and Retry-After.
        max_streams: translations that are written word by word at once; beyond it 429.
        max_connections: open at once; beyond it 503.
        deadline: seconds from a request's arrival to its answer; later ones get 504.
        read_timeout: seconds for a request's body to come in, or for a part of an answer to be taken; else 408.
        batch_tokens: most tokens that run together, padding included.
        batch_items: most items that run together.
        max_wait_ms: most milliseconds that a bundle which is asked by several waits to fill a batch.

    Raises:
        KzooError: one is not above 0, or a request may have more items than may wait.
    """

    max_bytes: int = 16_000_000
    max_items: int = 256
    max_tokens: int = 8192
    max_queue: int = 2048
    max_streams: int = 8
    max_connections: int = 1000
    deadline: float = 30.0
    read_timeout: float = 20.0
    batch_tokens: int = 1024
    batch_items: int = 64
    max_wait_ms: float = 5.0

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if value <= 0 and not (field.name == "max_wait_ms" and value == 0):
                raise KzooError(f"{field.name} is {value}; it must be above 0.")
        if self.max_items > self.max_queue:
            raise KzooError(
                f"max_items is {self.max_items} and max_queue {self.max_queue}: a request of {self.max_items} items "
                "would never be taken. Let more wait."
            )
