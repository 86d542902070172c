"""Imports only go down: cli, uniformerv2, k710. k710 never imports torch."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
ABOVE = {
    "k710": {"uniformerv2", "k710_cli", "typer", "torch", "torchvision", "timm", "safetensors"},
    "uniformerv2": {"k710_cli", "typer"},
    "cli/k710_cli": {"torch", "torchvision", "timm"},
}


def imported(path: Path) -> set[str]:
    """The top-level packages that a file imports, anywhere in it."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    nodes = list(ast.walk(tree))
    names = [a.name for node in nodes if isinstance(node, ast.Import) for a in node.names]
    names += [n.module for n in nodes if isinstance(n, ast.ImportFrom) and n.module and not n.level]
    return {name.partition(".")[0] for name in names}


@pytest.mark.parametrize("room", ABOVE)
def test_imports_only_go_down(room: str) -> None:
    files = sorted((ROOT / room).rglob("*.py"))
    assert files
    for path in files:
        assert not imported(path) & ABOVE[room], path
