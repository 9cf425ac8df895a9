"""No block of statements stands twice in the zoo: what two architectures share is in a layer or their base."""

from __future__ import annotations

import ast
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
LINES = 6


def sources() -> dict[str, str]:
    files = [*(ROOT / "kzoo" / "models").glob("*.py"), *(ROOT / "kzoo" / "layers").glob("*.py")]
    return {path.name: path.read_text(encoding="utf-8") for path in files}


def bodies(tree: ast.AST) -> Iterator[list[ast.stmt]]:
    """Yield every list of statements that run.

    Imports, docstrings and the fields of a class are no such statements: a field is a name with a default, and
    what two configs have in common there is the papers' doing.
    """
    for node in ast.walk(tree):
        for name in ("body", "orelse", "finalbody"):
            body = getattr(node, name, None)
            if not isinstance(body, list):
                continue
            if isinstance(node, ast.Module | ast.ClassDef):
                # Functions are the units of a module or class; each one is looked into by itself.
                yield from ([statement] for statement in body if isinstance(statement, ast.FunctionDef))
            else:
                yield [statement for statement in body if not is_docstring(statement)]


def is_docstring(statement: ast.stmt) -> bool:
    return isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant)


def length(statement: ast.stmt) -> int:
    """Return how many lines of code a statement takes, its docstring left out."""
    docstrings = [node for node in ast.walk(statement) if isinstance(node, ast.stmt) and is_docstring(node)]
    ends = [(node.lineno, node.end_lineno or node.lineno) for node in [statement, *docstrings]]
    return ends[0][1] - ends[0][0] + 1 - sum(end - start + 1 for start, end in ends[1:])


def normalised(statement: ast.stmt) -> str:
    """Return what a statement says, however it is wrapped, and whatever its docstring and types say."""
    copy = ast.parse(ast.unparse(statement))
    for node in ast.walk(copy):
        if isinstance(node, ast.FunctionDef):
            node.body = [inner for inner in node.body if not is_docstring(inner)] or [ast.Pass()]
            node.name = ""
            node.returns = None
        if isinstance(node, ast.arg):
            node.annotation = None
    return ast.dump(copy)


def duplicates(files: dict[str, str], lines: int = LINES) -> list[list[str]]:
    """Return the places of each run of statements of `lines` or more lines that stands twice."""
    places: dict[tuple[str, ...], list[str]] = defaultdict(list)
    for name, text in files.items():
        for body in bodies(ast.parse(text)):
            keys, lengths = [normalised(statement) for statement in body], [length(one) for one in body]
            for start in range(len(body)):
                for end in range(start + 1, len(body) + 1):
                    if sum(lengths[start:end]) >= lines:
                        places[tuple(keys[start:end])].append(f"{name}:{body[start].lineno}")
                        break
    return [where for where in places.values() if len(where) > 1]


def test_no_block_of_six_lines_stands_twice() -> None:
    assert duplicates(sources()) == []


BLOCK = """
def first(x):
    a = x + 1
    b = call(
        a,
        x,
    )
    if b:
        a = -a
    return a * b
"""


@pytest.mark.parametrize(
    ("other", "found"),
    [
        ("def second(y: int) -> int:\n    '''Another.'''\n    z = 0\n" + BLOCK.split("\n", 2)[2], True),
        (BLOCK.replace("first", "second").replace("a,\n        x,\n    ", "a, x"), True),
        (BLOCK.replace("x + 1", "x + 2").replace("-a", "a"), False),
        ("class Numbers:\n" + "".join(f"    field_{index}: int = 1\n" for index in range(8)), False),
    ],
)
def test_a_copy_is_found_however_it_is_wrapped(other: str, found: bool) -> None:
    assert bool(duplicates({"a.py": BLOCK, "b.py": other})) is found
