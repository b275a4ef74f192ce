"""What --version says."""

import platform

import numpy as np

from command_line import VERSION


def describe_version(program):
    """In one line, the program's version and those of what it computes with: Python, NumPy and the
    BLAS that NumPy was built with."""
    blas = np.show_config(mode="dicts").get("Build Dependencies", {}).get("blas", {})
    name = f"{blas.get('name', 'unknown')} {blas.get('version', '')}".strip()
    python = f"{platform.python_implementation()} {platform.python_version()}"
    return f"{program} {VERSION}, {python}, NumPy {np.__version__}, BLAS {name}"
