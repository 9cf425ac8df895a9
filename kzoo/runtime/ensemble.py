"""Several translation bundles that write together."""

from __future__ import annotations

from collections.abc import Sequence

from kzoo.errors import KzooError
from kzoo.runtime.pipeline import Pipeline
from kzoo.runtime.seq2seq import Averaged
from kzoo.runtime.translation import Translation


class Ensemble(Translation):
    """Several translation bundles of one vocabulary that write together.

    Each token's probability is the mean of theirs. It is called as `Translation` is.

    Args:
        members: the pipelines, from `kzoo.load`.

    Raises:
        KzooError: if there is none, or one has another task, vocabulary, start or end.

    Example:
        >>> both = Ensemble([kzoo.load("runs/first/bundle"), kzoo.load("runs/second/bundle")])  # doctest: +SKIP
        >>> both("A dog runs.", num_beams=4)  # doctest: +SKIP
        {'translation': 'Ein Hund rennt.', 'score': -0.24}
    """

    def __init__(self, members: Sequence[Pipeline]):
        if not members:
            raise KzooError("An ensemble needs at least one pipeline.")
        translators = []
        for member in members:
            if not isinstance(member, Translation):
                raise KzooError(f"'{member.name}' does {member.task}; an ensemble is of translation bundles.")
            translators.append(member)
        first = translators[0]
        for other in translators[1:]:
            same = other._tokenizer.to_json() == first._tokenizer.to_json() and (
                other._start_id,
                other._defaults.end_id,
            ) == (first._start_id, first._defaults.end_id)
            if not same:
                raise KzooError(
                    f"'{first.name}' and '{other.name}' have different vocabularies: they cannot decide together."
                )
        self._members = translators
        super().__init__(first._bundle, first._sessions)
        self._writer = Averaged([member._writer for member in translators])
        self.lanes = min(member.lanes for member in translators)

    @property
    def name(self) -> str:
        """The members' names."""
        return "+".join(member.name for member in self._members)

    def verify(self) -> float:
        """Verify each member, and return the largest difference."""
        return max(member.verify() for member in self._members)
