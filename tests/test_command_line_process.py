"""Threads of BLAS, set at run time."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from command_line import process
from command_line.process import (
    blas_threads,
    count_cores,
    get_blas_threads,
    set_blas_threads,
)

needs_blas = pytest.mark.skipif(
    process.find_blas_functions() is None, reason="NumPy's BLAS has no such functions"
)


@needs_blas
def test_the_number_of_threads_is_set_and_put_back():
    before = get_blas_threads()
    with blas_threads(1):
        assert get_blas_threads() == 1
        with blas_threads(None):
            assert get_blas_threads() == 1
            assert set_blas_threads(2)
            assert get_blas_threads() == 2
        assert get_blas_threads() == 1
        with pytest.raises(KeyError), blas_threads(2):
            raise KeyError
        assert get_blas_threads() == 1
    assert get_blas_threads() == before


@needs_blas
@pytest.mark.skipif(count_cores() < 2, reason="needs two cores")
def test_it_is_the_blas_that_numpy_computes_with():
    """A process whose BLAS was told to take one thread spends no more time than passes."""
    code = (
        "import time, numpy as np; from command_line.process import set_blas_threads\n"
        "a = np.ones((900, 900), np.float32); a @ a; set_blas_threads(1); time.sleep(0.3)\n"
        "wall, cpu = time.perf_counter(), time.process_time()\n"
        "for _ in range(8): a @ a\n"
        "print((time.process_time() - cpu) / (time.perf_counter() - wall))"
    )
    root = Path(process.__file__).parents[1]
    environment = os.environ | {"OPENBLAS_NUM_THREADS": "2"}
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=root, env=environment
    )
    assert float(done.stdout) < 1.2, done.stderr


@needs_blas
def test_numpys_wheel_is_found_through_its_own_module_and_beside_it(monkeypatch):
    paths = process.list_blas_paths()
    if len(paths) < 2:
        pytest.skip("NumPy is not a wheel with a BLAS of its own")
    before = get_blas_threads()
    for path in paths:
        monkeypatch.setattr(process, "list_blas_paths", lambda path=path: [path])
        with blas_threads(1):
            assert get_blas_threads() == 1
        assert get_blas_threads() == before


def test_where_no_blas_can_be_told_nothing_breaks(monkeypatch):
    for paths in ([], ["/no/such/library"], [sys.modules["_ctypes"].__file__]):
        monkeypatch.setattr(process, "list_blas_paths", lambda paths=paths: paths)
        assert set_blas_threads(1) is False
        assert get_blas_threads() is None
        with blas_threads(1):
            assert np.ones((2, 2)).sum() == 4


def test_a_python_without_foreign_functions_tells_no_blas(monkeypatch):
    monkeypatch.setitem(sys.modules, "ctypes", None)
    assert set_blas_threads(1) is False
    assert get_blas_threads() is None


def test_cores_are_those_this_process_may_use(monkeypatch):
    assert 1 <= count_cores() <= os.cpu_count()
    monkeypatch.delattr(os, "sched_getaffinity", raising=False)
    assert count_cores() == os.cpu_count()
