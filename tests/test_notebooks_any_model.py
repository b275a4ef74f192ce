"""notebooks/any_model.py: the walk-throughs' measurements on a model by name."""

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


def run(*arguments):
    command = [sys.executable, ROOT / "notebooks" / "any_model.py", *arguments]
    environment = {**os.environ, "PYTHONIOENCODING": "utf-8"}
    return subprocess.run(command, capture_output=True, encoding="utf-8", env=environment)


def test_tales():
    done = run("tales")
    assert done.returncode == 0 and done.stderr == ""
    assert done.stdout.startswith("tales: {'n_vocab': 2048,")
    for part in ("tokens: 'The' ' princess'", "nearest to ' king'", "induction", "bits per byte"):
        assert part in done.stdout
    last = [line for line in done.stdout.splitlines() if line.startswith("  embed ")]
    assert last[0].split()[3:6] == ["The", "princess", "kissed"]  # at first, each says itself


def test_a_model_that_is_not_there_is_one_line():
    done = run("/nowhere/at/all")
    assert done.returncode == 1 and done.stdout == ""
    assert done.stderr.startswith("any_model.py: ") and done.stderr.count("\n") == 1
