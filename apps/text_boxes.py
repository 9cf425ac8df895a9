"""Boxes for a text, or for two where a bundle takes pairs, with examples to click."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

import gradio as gr
from gradio.components import Component

from kzoo.apps import page
from kzoo.apps.classifying import Classifier
from kzoo.text.strings import parts_of

_SECOND = {None: "Second text, for models that compare two", True: "Second text", False: "Second text"}


@dataclass(frozen=True)
class TextBoxes:
    """Where texts go in.

    Attributes:
        first: the text.
        second: the other of a pair.
        examples: texts to click.
    """

    first: gr.Textbox
    second: gr.Textbox
    examples: gr.Dataset

    @classmethod
    def draw(cls, classifier: Classifier) -> Self:
        """Draw the boxes for a bundle; the examples are drawn where `examples.render()` is called."""
        return cls(
            gr.Textbox(label="Text", placeholder="A sentence or a paragraph", lines=5, max_lines=20),
            gr.Textbox(lines=2, max_lines=20, **_second(classifier)),
            gr.Dataset(
                label="Examples", components=["textbox"], type="index", render=False, **_samples(classifier)
            ),
        )

    @property
    def changing(self) -> list[Component]:
        """What is another for another bundle, in the order of what `switched` returns."""
        return [self.second, self.examples]

    @staticmethod
    def switched(classifier: Classifier) -> list[Any]:
        """Return updates for a bundle."""
        return [gr.update(**_second(classifier)), gr.Dataset(**_samples(classifier))]

    def wire(
        self,
        known: Mapping[str, Classifier],
        button: gr.Button,
        answer: Callable[..., Any],
        picked: Sequence[Component],
        outputs: Sequence[Component],
        waiting: Component,
    ) -> None:
        """Have the button, the key for it and the examples ask.

        Args:
            known: bundles by name.
            button: the button.
            answer: takes the values of `picked` and both texts.
            picked: what else is asked for; the first of them holds a bundle's name.
            outputs: where the answer goes.
            waiting: where it is said that one waits, and for how many others.
        """
        wiring: dict[str, Any] = {
            "fn": answer,
            "inputs": [*picked, self.first, self.second],
            "outputs": outputs,
            "preprocess": False,
            "show_progress_on": waiting,
            **page.RUNS_MODEL,
        }
        button.click(**wiring)
        self.first.submit(**wiring)
        self.second.submit(**wiring)

        def fill_in(name: str, place: Any) -> tuple[str, str]:
            examples = known[name].examples
            first, second = (*parts_of(examples[page.checked_index(place, examples, "an example")]), "")[:2]
            return first, second

        self.examples.click(
            fill_in,
            [picked[0], self.examples],
            [self.first, self.second],
            preprocess=False,
            **page.AT_ONCE,
        ).then(**wiring)


def _second(classifier: Classifier) -> dict[str, Any]:
    return {"label": _SECOND[classifier.pairs], "visible": classifier.pairs is not False}


def _samples(classifier: Classifier) -> dict[str, Any]:
    examples = classifier.examples
    return {"samples": [[" / ".join(parts_of(text))] for text in examples], "visible": bool(examples)}
