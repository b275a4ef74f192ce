"""Run notebooks from top to bottom, each in a fresh kernel; an error in a cell ends it.

    pip install -r notebooks/requirements.txt
    python notebooks/run.py                      all of them, and the outputs are kept in the files
    python notebooks/run.py 2_attention.ipynb    this one

--check leaves the files as they are. It also replaces what the reader would write in each exercise,
the lines of its cell down to the first empty one, by the folded solution above it, and the exercise
must then answer "right". NOTEBOOKS_FAST=1 in the environment cuts the longest runs short.
"""

import argparse
import base64
import os
import re
import sys
import time
from pathlib import Path

try:
    import nbformat
    from nbclient import NotebookClient
    from nbclient.exceptions import CellExecutionError, CellTimeoutError, DeadKernelError
except ModuleNotFoundError as error:
    sys.exit(f"run.py: {error.name} is not installed; pip install -r notebooks/requirements.txt")

from checksum import checksum

HERE = Path(__file__).resolve().parent
COLOURS = re.compile(r"\x1b\[[0-9;]*m")
SOLUTION = re.compile(r"<summary>Solution</summary>.*?```python\n(.*?)```", re.DOTALL)


def run(path, check):
    """Execute a notebook; returns what went wrong, a list of str."""
    notebook = nbformat.read(path, as_version=4)
    for cell in notebook.cells:
        if cell.cell_type == "code":
            cell.outputs, cell.execution_count = [], None
    resources = {"metadata": {"path": str(path.parent)}}
    client = NotebookClient(
        notebook, timeout=3600, resources=resources, coalesce_streams=True
    )  # what is printed by one cell, in one piece
    problems = []
    with client.setup_kernel():
        count = 0
        try:
            for index, cell in enumerate(notebook.cells):
                if cell.cell_type == "code":
                    count += 1
                    client.execute_cell(cell, index, execution_count=count)
            if check:
                problems = wrong_solutions(client, notebook)
        except (CellExecutionError, CellTimeoutError, DeadKernelError) as error:
            problems.append(COLOURS.sub("", str(error)))
        if check and any(
            output.get("name") == "stderr"
            for cell in notebook.cells
            for output in cell.get("outputs", [])
        ):
            problems.append("something was written to stderr, such as a warning")
    if not check and not problems:
        write(notebook, path)
    return [f"{path.name}: {problem}" for problem in problems]


def wrong_solutions(client, notebook):
    """The exercises whose solution is not accepted: run in the kernel, after everything else."""
    problems = []
    tasks = [i for i, cell in enumerate(notebook.cells) if "### Exercise" in cell.source]
    for index in tasks:
        title = notebook.cells[index].source.partition("\n")[0].strip("# ")
        found = SOLUTION.search(notebook.cells[index].source)
        exercise = notebook.cells[index + 1]
        _, _, rest = exercise.source.partition("\n\n")
        if found is None or "check(" not in rest:
            problems.append(f"{title}: has no solution, or no check in the cell after it")
            continue
        if text_of(exercise) != "no answer yet\n":
            problems.append(f"{title}: without an answer it says {text_of(exercise)!r}")
        solved = nbformat.v4.new_code_cell(found.group(1) + "\n\n" + rest)
        client.execute_cell(solved, index + 1)
        if text_of(solved).splitlines()[-1:] != ["right"]:
            problems.append(f"{title}: its solution gives {text_of(solved)!r}")
    return problems if tasks else ["has no exercises"]


def text_of(cell):
    return "".join(output.get("text", "") for output in cell.get("outputs", []))


def write(notebook, path):
    """Keep the outputs, without names of cells and of versions, which say nothing."""
    for number, cell in enumerate(notebook.cells):
        cell["id"], cell.metadata = f"cell-{number:03}", {}
    notebook.metadata = {
        "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
        "language_info": {"name": "python"},
        "checksum": checksum(notebook),
    }
    nbformat.validate(notebook)
    nbformat.write(notebook, path)
    for cell in notebook.cells:
        if cell.cell_type == "code" and "# The README shows this picture." in cell.source:
            (png,) = (output.data["image/png"] for output in cell.outputs if "data" in output)
            (HERE / "readme.png").write_bytes(base64.b64decode(png))


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("names", nargs="*", help="files in notebooks/ (default: all)")
    parser.add_argument(
        "--check",
        action="store_true",
        help="leave the files as they are, and try the exercises' solutions",
    )
    arguments = parser.parse_args()
    paths = [HERE / Path(name).name for name in arguments.names] or sorted(HERE.glob("*.ipynb"))
    for path in paths:
        if not path.is_file():
            parser.error(f"there is no notebook {path.name} beside run.py")
    if not arguments.check and os.environ.get("NOTEBOOKS_FAST"):
        parser.error("NOTEBOOKS_FAST cuts runs short, and such outputs are not kept; add --check")
    problems = []
    for path in paths:
        start = time.perf_counter()
        found = run(path, arguments.check)
        print(
            f"{path.name}: {'failed' if found else 'ran'}, {time.perf_counter() - start:.0f} s",
            flush=True,
        )
        problems += found
    sys.exit("\n".join(problems) or None)


if __name__ == "__main__":
    main()
