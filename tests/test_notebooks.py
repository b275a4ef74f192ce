"""The notebooks as they are committed: run from top to bottom, unchanged since, and as easy to read
as they are meant to be.

`python notebooks/run.py --check` runs them anew; this only reads the files.
"""

import ast
import base64
import json
import re
import sys
from pathlib import Path

import pytest

FOLDER = Path(__file__).resolve().parents[1] / "notebooks"
sys.path.append(str(FOLDER))
from checksum import checksum  # noqa: E402

PATHS = sorted(FOLDER.glob("*.ipynb"), key=lambda path: int(path.stem.partition("_")[0]))
NAMES = [
    "1_tokens",
    "2_embeddings_and_positions",
    "3_attention",
    "4_what_the_heads_do",
    "5_residual_stream_and_layer_norm",
    "6_gpt2_whole",
    "7_from_probabilities_to_text",
    "8_how_good_is_it",
    "9_training",
    "10_backpropagation_and_its_bugs",
]
each_notebook = pytest.mark.parametrize("path", PATHS, ids=lambda path: path.stem)


def read(path):
    notebook = json.loads(path.read_text("utf-8"))
    for cell in notebook["cells"]:
        cell["source"] = "".join(cell["source"])
        for output in cell.get("outputs", []):
            for part in (output, output.get("data", {})):
                part |= {
                    name: "".join(part[name]) for name in ("text", "text/plain") if name in part
                }
    return notebook, notebook["cells"]


def code_of(cells):
    return [cell for cell in cells if cell["cell_type"] == "code"]


def prose_of(cells):
    return [cell["source"] for cell in cells if cell["cell_type"] == "markdown"]


def paragraphs(cells):
    """The paragraphs of the prose, and the items of its lists, without formulas, code, tables."""
    for source in prose_of(cells):
        source = re.sub(r"```.*?```", "", source, flags=re.DOTALL)
        for paragraph in re.split(r"\n\s*\n|\n(?=- )", source):
            if not re.match(r"\s*(\||\$\$)", paragraph):
                yield paragraph


def test_all_ten_are_there():
    assert [path.stem for path in PATHS] == NAMES


@each_notebook
def test_it_was_run_from_top_to_bottom_and_not_changed_since(path):
    notebook, cells = read(path)
    code = code_of(cells)
    assert [cell["execution_count"] for cell in code] == list(range(1, len(code) + 1))
    outputs = [output for cell in code for output in cell["outputs"]]
    assert not [output for output in outputs if output["output_type"] == "error"]
    assert not [output for output in outputs if output.get("name") == "stderr"]  # no warnings
    assert notebook["metadata"]["checksum"] == checksum(notebook), (
        f"something was edited after it ran; python notebooks/run.py {path.name} runs it anew, "
        f"git checkout notebooks/{path.name} brings back the one that was committed"
    )


@each_notebook
def test_it_is_short_and_begins_with_a_picture(path):
    _, cells = read(path)
    assert len(cells) <= 60
    for paragraph in paragraphs(cells):
        assert len(paragraph.split()) <= 90, paragraph
    with_pictures = [
        i
        for i, cell in enumerate(cells)
        if any("image/png" in output.get("data", {}) for output in cell.get("outputs", []))
    ]
    assert with_pictures[0] < 5


@each_notebook
def test_it_imports_in_one_line_only(path):
    _, cells = read(path)
    imports = [
        node
        for cell in code_of(cells)
        for node in ast.walk(ast.parse(cell["source"]))
        if isinstance(node, ast.Import | ast.ImportFrom)
    ]
    assert len(imports) == 1 and imports[0].lineno == imports[0].end_lineno == 1
    assert imports[0].module == "common"


def assigned(source):
    """The names that a cell binds: by assignment (or def), and as the variables of its loops."""
    bound, loops, inner = set(), set(), set()
    tree = ast.parse(source)
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.ClassDef | ast.Lambda):
            inner |= {id(child) for child in ast.walk(node) if child is not node}
        if isinstance(node, ast.ListComp | ast.SetComp | ast.DictComp | ast.GeneratorExp):
            inner |= {id(child) for child in ast.walk(node)}
    for node in ast.walk(tree):
        if id(node) in inner:
            continue
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            bound.add(node.name)
        if isinstance(node, ast.For):
            loops |= {name.id for name in ast.walk(node.target) if isinstance(name, ast.Name)}
        if isinstance(node, ast.Assign | ast.AnnAssign | ast.With):
            targets = (
                node.targets
                if isinstance(node, ast.Assign)
                else [node.target]
                if isinstance(node, ast.AnnAssign)
                else [item.optional_vars for item in node.items if item.optional_vars]
            )
            bound |= {
                name.id
                for target in targets
                for name in ast.walk(target)
                if isinstance(name, ast.Name) and isinstance(name.ctx, ast.Store)
            }
    return bound, loops


@each_notebook
def test_a_name_means_one_thing(path):
    """So that a cell can be run again after later ones."""
    _, cells = read(path)
    where = {}
    pairs = [assigned(cell["source"]) for cell in code_of(cells)]
    for number, (bound, _) in enumerate(pairs):
        for name in bound - {"figure", "axes", "_"}:
            assert where.setdefault(name, number) == number, f"{name} is bound in two cells"
    for number, (bound, loops) in enumerate(pairs):
        for name in loops - bound:
            assert where.get(name, number) == number, f"a loop binds {name} anew"


PLACES = (
    "sections?|notebooks?|exercises?|steps?|equations?|tables?|layers?|heads?|positions?|rows?|U\\+"
)
NUMBER = re.compile(r"(?<![\w.])[−-]?\d[\d,]*(?:\.\d+)?(?:e[−-]?\d+)?(?![\w])")


def numbers(text):
    """[(value, number of decimals)] of the numbers in a text."""
    for found in NUMBER.findall(text.replace("\u2009", "")):
        digits = found.replace(",", "").replace("−", "-")
        yield float(digits), len(digits.partition("e")[0].partition(".")[2])


def plain(source):
    """Prose without what holds numbers of other kinds: code, formulas, folds, links, references."""
    source = re.sub(r"<details>.*?</details>", "", source, flags=re.DOTALL)
    source = re.sub(r"```.*?```|`[^`]*`|\$\$.*?\$\$|\$[^$]*\$", "", source, flags=re.DOTALL)
    source = re.sub(r"\]\([^)]*\)|arXiv:[\d.]+|https?://\S+", "", source)
    source = re.sub(rf"(?i)({PLACES})(,? (and |to )?\d+(\.\d+)*)+", "", source)
    source = re.sub(r"(?:et al\.|[A-Z][a-z]+|of),? (?:19|20)\d\d|\((?:19|20)\d\d\)", "", source)
    return re.sub(r"(?m)^#+ .*$|^\d+\. |\(\d\)", "", source)


@each_notebook
def test_every_number_in_its_prose_was_printed_by_a_cell(path):
    """Or stands in the code; whole numbers up to twenty are words in figures, and go unchecked."""
    _, cells = read(path)
    code = code_of(cells)
    texts = [output.get("text", "") for cell in code for output in cell["outputs"]]
    texts += [output.get("data", {}).get("text/plain", "") for c in code for output in c["outputs"]]
    texts += [cell["source"].replace("_", "") for cell in code]
    known = [abs(value) for text in texts for value, _ in numbers(text)]
    for source in prose_of(cells):
        if source.startswith("### Exercise"):  # whose numbers are its task's
            continue
        for value, decimals in numbers(plain(source)):
            if value == int(value) and decimals == 0 and abs(value) <= 20:
                continue
            half = 0.5 * 10.0**-decimals + 1e-9
            assert any(
                abs(abs(value) - seen * scale) <= half for seen in known for scale in (1, 100)
            ), f"{value} is printed by no cell: {source[:200]}"


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


@each_notebook
def test_it_is_small_and_speaks_of_no_machine(path):
    assert path.stat().st_size < 1.5e6
    notebook, cells = read(path)
    for output in (output for cell in cells for output in cell.get("outputs", [])):
        output.get("data", {}).pop("image/png", None)
    assert not re.search(r"/(home|work|tmp|root|usr|opt|mnt|Users)/|C:\\\\", json.dumps(notebook))


@each_notebook
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
        assert [output["text"] for output in task["outputs"]] == ["no answer yet\n"]


@each_notebook
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
