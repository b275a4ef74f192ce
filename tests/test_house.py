"""Imports run one way: each part of the project uses only what it may."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import command_line

ROOT = Path(__file__).resolve().parents[1]
OURS = {
    "backward",
    "command_line",
    "encoder",
    "explorer",
    "files",
    "gpt2_numpy",
    "look_inside",
    "stacks",
    "train",
    "utils",
}

PROGRAMS = ["gpt2_numpy.py", "train.py", "files/convert.py", "explorer/__main__.py"]
MAY_IMPORT = {
    "gpt2_numpy.py": {"numpy"},
    "backward.py": {"numpy", "gpt2_numpy"},
    "look_inside.py": {"gpt2_numpy"},
    "encoder.py": {"regex"},
    "utils.py": {"numpy", "encoder", "files"},
    "train.py": {"numpy", "backward", "gpt2_numpy", "utils"},
    "stacks": {"numpy", "backward", "gpt2_numpy", "train", "stacks"},
    "explorer": {"numpy", "backward", "gpt2_numpy", "look_inside", "explorer"},
    "files": {"numpy", "requests", "tqdm", "urllib3", "files"},
    "command_line": {"numpy", "tqdm", *OURS},
}
HAND_OVER = {program: {"command_line"} for program in PROGRAMS}  # when it is run as one


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
    for file in [path] if path.is_file() else sorted(path.glob("*.py")):
        allowed = MAY_IMPORT[part] | HAND_OVER.get(file.relative_to(ROOT).as_posix(), set())
        assert imports_of(file) <= allowed, file.name


def test_the_table_has_every_part():
    assert {part.removesuffix(".py") for part in MAY_IMPORT} == OURS
    assert {path.stem for path in ROOT.glob("*.py")} <= OURS


def test_no_test_imports_another():
    for file in (ROOT / "tests").glob("*.py"):
        assert not [name for name in imports_of(file) if name.startswith("test_")], file.name


# What runs first when a program is started, so that whatever comes after it can fail in one line.
BEFORE_ALL_ELSE = {
    "command_line": "command_line/__init__.py",
    "command_line.errors": "command_line/errors.py",
    "command_line.launch": "command_line/launch.py",
    "files": "files/__init__.py",
    "files.messages": "files/messages.py",
}


@pytest.mark.parametrize("program", PROGRAMS)
def test_a_program_hands_over_before_it_imports_anything(program):
    hand_over = ast.parse((ROOT / program).read_text("utf-8")).body[1]
    assert ast.unparse(hand_over.test) == "__name__ == '__main__'"


def test_nothing_heavy_is_imported_before_ctrl_c_is_looked_after():
    code = "import sys; before = set(sys.modules); import command_line.launch"
    code += "; print(*set(sys.modules) - before)"
    command = [sys.executable, "-S", "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=True)
    names = set(done.stdout.split())
    assert {name for name in names if name.split(".")[0] in OURS} == set(BEFORE_ALL_ELSE)
    assert {name.split(".")[0] for name in names} <= OURS | set(sys.stdlib_module_names)
    assert not names & {"argparse", "pathlib", "threading"}


@pytest.mark.parametrize("file", [*PROGRAMS, *BEFORE_ALL_ELSE.values()])
def test_an_old_python_can_read_what_tells_it_that_it_is_too_old(file):
    ast.parse((ROOT / file).read_text("utf-8"), feature_version=(3, 7))


def test_whatever_has_one_of_our_names_is_forgotten_at_the_start():
    assert set(command_line.OURS) == OURS
