"""This process: the threads of its BLAS, the cores it may use, how it gets its memory."""

import contextlib
import os
import sys
from pathlib import Path

import numpy as np

# (set, get) the number of threads: OpenBLAS as NumPy's wheels have it (with 64-bit integers or
# 32-bit ones), OpenBLAS as systems have it, MKL. Apple's Accelerate has no such functions.
BLAS_FUNCTIONS = [
    ("scipy_openblas_set_num_threads64_", "scipy_openblas_get_num_threads64_"),
    ("scipy_openblas_set_num_threads", "scipy_openblas_get_num_threads"),
    ("openblas_set_num_threads64_", "openblas_get_num_threads64_"),
    ("openblas_set_num_threads", "openblas_get_num_threads"),
    ("MKL_Set_Num_Threads", "MKL_Get_Max_Threads"),
]


def set_blas_threads(n):
    """Let the BLAS that NumPy calls compute with n threads from now on; return whether it could be
    told."""
    functions = find_blas_functions()
    if functions is None:
        return False
    set_threads, _ = functions
    set_threads(n)
    return True


def get_blas_threads():
    """How many threads the BLAS that NumPy calls computes with; None where nobody tells."""
    functions = find_blas_functions()
    return None if functions is None else functions[1]()


@contextlib.contextmanager
def blas_threads(n):
    """with blas_threads(1): BLAS has so many threads inside (None: as many as it has), and as many
    as before afterwards, whatever was set inside."""
    before = get_blas_threads()
    if n is not None:
        set_blas_threads(n)
    try:
        yield
    finally:
        if before is not None:
            set_blas_threads(before)


def find_blas_functions():
    """(set, get), C functions of the BLAS that NumPy has loaded; None where there are none."""
    try:
        import ctypes
    except ImportError:  # a Python that was built without it
        return None
    for path in list_blas_paths():
        try:
            library = ctypes.CDLL(str(path))
        except OSError:
            continue
        for set_name, get_name in BLAS_FUNCTIONS:
            with contextlib.suppress(AttributeError):  # not in this library
                return getattr(library, set_name), getattr(library, get_name)
    return None


def list_blas_paths():
    """Where the BLAS may be: NumPy's own extension module, as a symbol of a library that it is
    linked with is found through it (but not on Windows); the libraries that lie beside NumPy. To
    open one that is loaded already gives that one."""
    extension = sys.modules.get("numpy._core._multiarray_umath")
    path = getattr(extension, "__file__", None)
    numpy = Path(np.__file__).parent
    beside = [numpy.parent / "numpy.libs", numpy / ".libs", numpy / ".dylibs"]
    blas = [file for folder in beside for file in sorted(folder.glob("*blas*"))]
    return blas if path is None else [path, *blas]


def count_cores():
    """How many processor cores this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def reuse_memory():
    """Keep the memory of large arrays for the next ones, where that saves time: a third of a long
    prompt's on one machine, nothing on another.

    glibc gives the memory of a large array back to the system when it is freed, and the next one is
    fetched anew, page by page: the price of every page's first touch. "Large" is what exceeds a
    threshold of 128 kB, which rises to the size of any such block that is freed, up to 32 MiB:
    mallopt(3), M_MMAP_THRESHOLD. So a block of almost that size is freed here, never touched.
    Elsewhere than in glibc this does nothing.
    """
    np.empty(31 * 2**20, np.uint8)
