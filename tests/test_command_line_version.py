"""What --version says."""

import platform

import numpy as np
import pytest

from command_line import VERSION
from command_line.version import describe_version
from programs import run_train


def test_it_names_all_that_computes():
    line = describe_version("train.py")
    assert line.startswith(f"train.py {VERSION}, ") and "\n" not in line
    for version in (platform.python_version(), f"NumPy {np.__version__}, BLAS "):
        assert version in line


@pytest.mark.parametrize("config", [{}, {"Build Dependencies": {"blas": {"name": "mkl"}}}])
def test_a_blas_that_is_not_known_breaks_nothing(monkeypatch, config):
    monkeypatch.setattr(np, "show_config", lambda mode: config)
    assert describe_version("train.py").endswith(("BLAS unknown", "BLAS mkl"))


def test_train_tells_its_version(capsys):
    with pytest.raises(SystemExit) as stopped:
        run_train("--version")
    assert stopped.value.code == 0
    assert capsys.readouterr() == (f"{describe_version('train.py')}\n", "")
