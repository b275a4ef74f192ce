"""The notebooks as they are committed: run from top to bottom, unchanged since, small, complete.

`python notebooks/run.py --check` runs them anew; this only reads the files.
"""

import base64
import hashlib
import json
import re
from pathlib import Path

import pytest

FOLDER = Path(__file__).resolve().parents[1] / "notebooks"
PATHS = sorted(FOLDER.glob("*.ipynb"))
NAMES = [
    "1_tokens",
    "2_attention",
    "3_residual_stream_and_layer_norm",
    "4_gpt2_whole",
    "5_from_probabilities_to_text",
    "6_training",
]


def read(path):
    notebook = json.loads(path.read_text("utf-8"))
    cells = notebook["cells"]
    for cell in cells:
        cell["source"] = "".join(cell["source"])
    return notebook, cells


def test_all_six_are_there():
    assert [path.stem for path in PATHS] == NAMES


@pytest.mark.parametrize("path", PATHS, ids=lambda path: path.stem)
def test_it_was_run_from_top_to_bottom_and_not_changed_since(path):
    notebook, cells = read(path)
    code = [cell for cell in cells if cell["cell_type"] == "code"]
    assert [cell["execution_count"] for cell in code] == list(range(1, len(code) + 1))
    outputs = [output for cell in code for output in cell["outputs"]]
    assert not [output for output in outputs if output["output_type"] == "error"]
    assert not [output for output in outputs if output.get("name") == "stderr"]  # no warnings
    for output in outputs:  # in a file a text is a list of lines
        for part in (output, output.get("data", {})):
            part.update(
                {name: "".join(part[name]) for name in ("text", "text/plain") if name in part}
            )
    kept = json.dumps([[cell["source"], cell["outputs"]] for cell in code], sort_keys=True)
    digest = hashlib.sha256(kept.encode())
    for name in ("common.py", "diagram.py", "stacks.py", "tale.txt"):
        digest.update((FOLDER / name).read_text("utf-8").encode())
    assert notebook["metadata"]["checksum"] == digest.hexdigest(), (
        f"something was edited after it ran; python notebooks/run.py {path.name} runs it anew, "
        f"git checkout notebooks/{path.name} brings back the one that was committed"
    )
    assert any("image/png" in output.get("data", {}) for output in outputs)


def test_the_readme_leads_to_all_of_them():
    readme = (FOLDER.parent / "README.md").read_text("utf-8")
    for name in NAMES:
        assert f"(notebooks/{name}.ipynb)" in readme


def test_the_picture_in_the_readme_is_one_of_the_notebooks():
    pictures = [
        base64.b64decode(output["data"]["image/png"])
        for path in PATHS
        for cell in read(path)[1]
        for output in cell.get("outputs", [])
        if "image/png" in output.get("data", {})
    ]
    assert "(notebooks/readme.png)" in (FOLDER.parent / "README.md").read_text("utf-8")
    assert (FOLDER / "readme.png").read_bytes() in pictures


@pytest.mark.parametrize("path", PATHS, ids=lambda path: path.stem)
def test_it_is_small_and_speaks_of_no_machine(path):
    assert path.stat().st_size < 1.5e6
    notebook, cells = read(path)
    for output in (output for cell in cells for output in cell.get("outputs", [])):
        output.get("data", {}).pop("image/png", None)
    assert not re.search(r"/(home|work|tmp|root|usr|opt|mnt|Users)/|C:\\\\", json.dumps(notebook))


@pytest.mark.parametrize("path", PATHS, ids=lambda path: path.stem)
def test_its_exercises_have_a_hint_a_solution_and_a_check(path):
    _, cells = read(path)
    tasks = [i for i, cell in enumerate(cells) if cell["source"].startswith("### Exercise")]
    assert 3 <= len(tasks) <= 5
    assert len(tasks) == sum(cell["source"].count("### Exercise") for cell in cells)
    for i in tasks:
        assert "<summary>Hint</summary>" in cells[i]["source"]
        assert re.search(
            r"<summary>Solution</summary>\s+```python\n.+\n```", cells[i]["source"], re.DOTALL
        )
        task = cells[i + 1]
        assert "check(" in task["source"].split("\n\n", 1)[1]
        assert ["".join(output["text"]) for output in task["outputs"]] == ["no answer yet\n"]


@pytest.mark.parametrize("path", PATHS, ids=lambda path: path.stem)
def test_every_fold_that_is_opened_is_closed(path):
    _, cells = read(path)
    for cell in cells:
        source = cell["source"]
        assert (
            source.count("<details>")
            == source.count("</details>")
            == source.count("<summary>")
            == source.count("</summary>")
        )
