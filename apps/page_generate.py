"""Page: the beginning of a text in, what a language model goes on with out, as it is written."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, cast

import gradio as gr

from kzoo.apps import about, links, page
from kzoo.errors import KzooError

if TYPE_CHECKING:
    from kzoo.runtime import Pipeline
    from kzoo.runtime.generation import TextGeneration

NAME, TITLE = "write", "Write"
TASKS = frozenset({"causal_lm"})
COMMAND = "kzoo train models/shakespeare/recipe.toml --publish"
MAX_TOKENS = 1_000
_PAUSE = 0.05  # seconds between two pictures of what grows


def build(pipelines: Sequence[Pipeline], surroundings: page.Surroundings) -> None:
    """Draw the tab: a prompt and how to go on with it on the left, the text on the right."""
    models = {pipeline.name: cast("TextGeneration", pipeline) for pipeline in pipelines}
    names = list(models)
    with gr.Row(equal_height=False):
        with gr.Column(min_width=280):
            model = gr.Dropdown(names, value=names[0], label="Model", visible=len(names) > 1)
            prompt = gr.Textbox(label="Beginning", placeholder="How the text begins", lines=4, max_lines=12)
            with gr.Row():
                button = gr.Button("Write", variant="primary", scale=3)
                stop = gr.Button("Stop", scale=1, min_width=80)
            settings = _build_settings()
        with gr.Column(min_width=280):
            text = gr.Textbox(
                label="Text", lines=16, max_lines=30, min_width=280, interactive=False, buttons=["copy"]
            )
            status = gr.Markdown(elem_classes="status", latex_delimiters=[])

    wiring: dict[str, Any] = {
        "fn": _writer(models),
        "inputs": [model, prompt, *settings],
        "outputs": [text, status],
        "show_progress_on": status,
        "preprocess": False,
        **page.RUNS_MODEL,
    }
    runs: list[dict[str, Any]] = [button.click(**wiring)]
    examples = models[names[0]].manifest.examples or []
    if examples:
        clickable = gr.Examples([[str(example)] for example in examples], [prompt], cache_examples=False)
        runs.append(clickable.load_input_event.then(**wiring))
    page.stop_with(stop, runs, [status], [page.line("Stopped.", "remark")])

    def call(pipeline: Pipeline, prompt: str, *settings: Any) -> about.Call:
        return about.Call("/generate", _checked(prompt), _options(*settings), link={"text": prompt})

    def fill(fields: Mapping[str, str]) -> list[Any]:
        return [links.chosen(fields, models), gr.update(**links.value_of(fields, "text"))]

    surroundings.entrances[NAME] = links.Entrance([model, prompt], fill)
    about.draw(NAME, models, model, [prompt, *settings], call, surroundings)


def _build_settings() -> list[gr.components.Component]:
    """Draw what tokens are drawn by, in the order in which `_writer` is given it."""
    tokens = gr.Slider(1, MAX_TOKENS, value=200, step=1, label="Tokens", info="Most that are written")
    temperature = gr.Slider(
        0, 2, value=0.8, step=0.05, label="Temperature", info="0 takes the most probable token each time"
    )
    top_k = gr.Slider(0, 200, value=0, step=1, label="Top-k", info="Draw among so many tokens; 0 for all")
    top_p = gr.Slider(
        0.05, 1, value=1, step=0.05, label="Top-p", info="Draw among the fewest that have this probability"
    )
    seed = gr.Textbox(
        label="Seed", max_lines=1, info="The same number writes the same text; another each time if empty"
    )
    return [tokens, temperature, top_k, top_p, seed]


def _writer(models: Mapping[str, TextGeneration]) -> Callable[..., Iterator[Any]]:
    """Return what answers the button: pictures of a growing text, and at its end how fast it grew."""

    def write(name: str, prompt: str, *settings: Any) -> Iterator[Any]:
        try:
            model, options = models[name], _options(*settings)
            grown = model.stream(_checked(prompt), **options)
            start = time.perf_counter()
            yield prompt, page.line("Writing ...", "took")
            written, shown = "", start
            for written in grown:
                if time.perf_counter() - shown > _PAUSE:
                    yield prompt + written, gr.skip()
                    shown = time.perf_counter()
            seconds = time.perf_counter() - start
            said = _speed(model, written, seconds) + _remark(model, prompt, options["max_new_tokens"])
            yield prompt + written, said
        except KzooError as error:
            yield "", page.line(str(error), "problem")

    return write


def _options(
    tokens: float | None,
    temperature: float | None,
    top_k: float | None,
    top_p: float | None,
    seed: str | None,
) -> dict[str, Any]:
    """Return the arguments of a stream that the widgets' values mean.

    Raises:
        KzooError: there are too many tokens, or none, or the seed is no number.
    """
    count = int(tokens or 0)
    if not 1 <= count <= MAX_TOKENS:
        raise KzooError(f"This page writes 1 to {MAX_TOKENS:,} tokens at a time, not {count:,}.")
    options: dict[str, Any] = {"max_new_tokens": count, "temperature": float(temperature or 0)}
    if options["temperature"]:
        options["top_k"] = int(top_k) if top_k else None
        options["top_p"] = float(top_p) if top_p and top_p < 1 else None
        options["seed"] = _checked_seed(seed or "")
    return options


def _checked_seed(seed: str) -> int | None:
    given = seed.strip()
    if given and not (given.isascii() and given.isdecimal() and len(given) < 20):
        raise KzooError(f"The seed is a whole number of up to 19 digits; '{given[:40]}' is none.")
    return int(given) if given else None


def _checked(prompt: str) -> str:
    if len(prompt) > page.MAX_TEXT:
        raise KzooError(
            f"The beginning has {len(prompt):,} characters; this page takes up to {page.MAX_TEXT:,}. Its end is what "
            "counts: leave the rest out."
        )
    return prompt


def _speed(model: TextGeneration, written: str, seconds: float) -> str:
    count = _count(model, written)
    return page.line(
        f"{count:,} tokens, {1000 * seconds:,.1f} ms on {model.device.upper()}: "
        f"{count / seconds:,.0f} tokens a second",
        "took",
    )


def _remark(model: TextGeneration, prompt: str, tokens: int) -> str:
    """Say what a user should know of how the beginning was read, or nothing."""
    if not prompt:
        return page.line("There was no beginning: the model made one.", "remark")
    count, read = _count(model, prompt), model.prompt_length(tokens)
    if count <= read:
        return ""
    return page.line(
        f"The beginning has {count:,} tokens. The model reads {read:,} and needs the rest of its "
        f"{model.reader.max_length:,} to write: it saw the end alone.",
        "remark",
    )


def _count(model: TextGeneration, text: str) -> int:
    """Return how many tokens a text has."""
    if not text:
        return 0
    # As long as it is: no token takes less than a byte.
    most = 4 * len(text)
    return int(
        model.reader.tokenizer.encode([text], max_length=most, special_tokens=False).attention_mask.sum()
    )
