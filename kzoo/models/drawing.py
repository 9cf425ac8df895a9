"""A model as a picture of text: from its inputs through the boxes of its blocks to its outputs."""

from __future__ import annotations

from kzoo.models.summary import Part, Summary

_NAME, _WHAT, _NUMBER = 26, 37, 13


def draw(summary: Summary) -> str:
    """Return the picture, lines of plain ASCII at most 80 wide.

    Example:
        >>> from kzoo.models.summary import summarize
        >>> print(draw(summarize("bert_tiny")).splitlines()[0])
        bert_tiny (classification)
    """
    free = "; ".join(f"{name} ({_shape(shape)})" for name, shape in summary.inputs.items())
    given = "; ".join(f"{name} ({_shape(shape)})" for name, shape in summary.outputs.items())
    boxes = [_box(parts) for parts in _grouped(summary.parts)]
    arrow = "  |"
    lines = [f"{summary.name} ({summary.task})", "", *_wrapped(free), arrow]
    for box in boxes:
        lines += [*box, arrow]
    lines += [*_wrapped(given), ""]
    length = f"{summary.length} tokens"
    lines.append(
        f"{summary.parameters:,} parameters; {summary.flops / 1e9:.3g} GFLOPs an example of {length}"
    )
    lines.append(f"licence of the published weights: {summary.license}")
    return "\n".join(lines)


def _shape(shape: list[int | str]) -> str:
    return ", ".join(map(str, shape))


def _wrapped(text: str) -> list[str]:
    return text.replace("; ", "\n").splitlines()


def _grouped(parts: list[Part]) -> list[list[Part]]:
    """Return the parts box by box: a stack of blocks by itself, what stands between two together."""
    groups: list[list[Part]] = []
    for part in parts:
        if part.parts or part.name == "head" or not groups or groups[-1][-1].parts:
            groups.append([part])
        else:
            groups[-1].append(part)
    return groups


def _box(parts: list[Part]) -> list[str]:
    [*_, last] = parts
    if not last.parts:
        return [_edge(""), *map(_row, parts), _edge("")]
    title = f" {last.times} x {last.name} "
    if last.times == 1:
        total = f" {last.parameters:,} "
    elif last.shared:
        total = f" the same {last.parameters:,} each time "
    else:
        total = f" {last.times} x {last.parameters:,} = {last.times * last.parameters:,} "
    return [_edge(title), *map(_row, last.parts), _edge(total, right=True)]


def _row(part: Part) -> str:
    what = part.what or part.kind
    return f"| {part.name:{_NAME}}{what:{_WHAT}}{part.parameters:>{_NUMBER},} |"


def _edge(text: str, right: bool = False) -> str:
    width = _NAME + _WHAT + _NUMBER + 2
    if right:
        return f"+{text.rjust(width - 1, '-')}-+"
    return f"+-{text.ljust(width - 1, '-')}+"
