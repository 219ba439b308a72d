"""Every kind of finding that the package can name has a severity and an advice, and none is there for nothing."""

import ast
import importlib
from collections.abc import Iterator
from pathlib import Path

import pytest

import qtablate
from qtablate.datatypes import IMAGE, VIDEO
from qtablate.validate.findings import KINDS, SEVERITIES

PACKAGE = Path(qtablate.__file__).parent
NAMES = {"BadMedia": 0, "Problem": 1, "Finding": 0, "_raise_unreadable": 0}
"""What makes a finding: where its kind stands among the arguments."""
PASSED_ON = ("kind", "error.kind", "problem.kind")
"""Kinds that were named elsewhere."""


def calls(tree: ast.AST) -> Iterator[tuple[str, ast.Call]]:
    for node in ast.walk(tree):
        name = getattr(node.func, "id", getattr(node.func, "attr", "")) if isinstance(node, ast.Call) else ""
        if name in NAMES:
            yield name, node


def named(source: str, module: str) -> set[str]:
    """The kinds that a source names: as text, by a constant, or by the medium."""
    found: set[str] = set()
    for name, call in calls(ast.parse(source)):
        text = ast.unparse(call.args[NAMES[name]])
        if text not in PASSED_ON:
            scope = vars(importlib.import_module(module))
            found |= {eval(text, {**scope, "medium": medium}) for medium in (VIDEO, IMAGE)}
    return found


def emitted() -> set[str]:
    found: set[str] = set()
    for path in PACKAGE.rglob("*.py"):
        source = path.read_text()
        if any(name in source for name in NAMES):
            found |= named(source, ".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts))
    return found


def test_every_kind_has_an_entry_and_every_entry_a_use():
    assert emitted() == set(KINDS)
    for kind in KINDS.values():
        assert kind.severity in SEVERITIES
        assert kind.advice.endswith(".")


def test_a_new_kind_without_an_entry_would_be_seen():
    assert named("def f(path):\n    raise BadMedia('haunted video', path)", "qtablate.video.frames") - set(KINDS) == {
        "haunted video"
    }
    assert named("Finding(kinds.LEAK, name, '')", "qtablate.validate.media") <= set(KINDS)
    with pytest.raises(NameError):  # a kind made on the way must be made of what can be told here
        named("Problem(name, f'{colour} video', '')", "qtablate.video.frames")
