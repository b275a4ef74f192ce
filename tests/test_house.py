"""Imports run one way: each part of the project uses only what it may."""

import ast
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
OURS = {
    "backward",
    "command_line",
    "encoder",
    "files",
    "gpt2_numpy",
    "look_inside",
    "train",
    "utils",
}

MAY_IMPORT = {
    "gpt2_numpy.py": {"numpy"},
    "backward.py": {"numpy", "gpt2_numpy"},
    "look_inside.py": {"gpt2_numpy"},
    "encoder.py": {"regex"},
    "utils.py": {"numpy", "encoder", "files"},
    "train.py": {"numpy", "backward", "gpt2_numpy", "utils"},
    "files": {"numpy", "requests", "tqdm", "urllib3", "files"},
    "command_line": {"numpy", "tqdm", *OURS},
}
HAND_OVER = {"gpt2_numpy.py": {"command_line"}, "train.py": {"command_line"}}  # run as a program


def imports_of(path):
    """The top-level packages that a file imports, anywhere in it, without the standard library."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            names.add(node.module.split(".")[0])
    return names - set(sys.stdlib_module_names)


@pytest.mark.parametrize("part", MAY_IMPORT)
def test_each_part_imports_only_what_it_may(part):
    path = ROOT / part
    allowed = MAY_IMPORT[part] | HAND_OVER.get(part, set())
    for file in [path] if path.is_file() else sorted(path.glob("*.py")):
        assert imports_of(file) <= allowed, file.name


def test_the_table_has_every_part():
    assert {part.removesuffix(".py") for part in MAY_IMPORT} == OURS
    assert {path.stem for path in ROOT.glob("*.py")} <= OURS


def test_no_test_imports_another():
    for file in (ROOT / "tests").glob("*.py"):
        assert not [name for name in imports_of(file) if name.startswith("test_")], file.name
