"""What a page says when something fails that nobody expected to."""

from __future__ import annotations

import functools
import inspect
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import gradio as gr

from kzoo.apps.serving.front import log_bug


def say_bugs(function: Callable[..., Any]) -> Callable[..., Any]:
    """Return a widget's function that, where it failed, has the page say so, and the log say where.

    Gradio says "Error" and no more, and prints the message, which may quote what the user wrote.
    """
    if inspect.isgeneratorfunction(function):

        @functools.wraps(function)
        def grown(*values: Any) -> Iterator[Any]:
            with _said():
                yield from function(*values)

        return grown

    @functools.wraps(function)
    def once(*values: Any) -> Any:
        with _said():
            return function(*values)

    return once


@contextmanager
def _said() -> Iterator[None]:
    try:
        yield
    except Exception as error:
        name = uuid.uuid4().hex
        log_bug(name, error)
        raise gr.Error(
            f"The server failed on this; its log says where, under {name[:8]}.", print_exception=False
        ) from None
