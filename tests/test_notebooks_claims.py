"""notebooks/claims.md: every link leads to a heading that is there, and no section of the two
articles is left out."""

import json
import re
from pathlib import Path

import pytest

FOLDER = Path(__file__).resolve().parents[1] / "notebooks"
ARTICLES = Path(__file__).resolve().parents[2] / "shared" / "articles"
LEDGER = (FOLDER / "claims.md").read_text("utf-8")
SECTIONS = {  # their numbered sections
    "A": "1.1 1.2 1.3 2.1 3.1 3.2 3.3 3.4 4.1 4.2 4.3 5.1 5.2 5.3 5.4 6.1 6.2 7.1 7.2 7.3 8.1 8.2 "
    "8.3 8.4",
    "B": "3.1 3.2 3.3 3.4 4.1 4.2 4.3 5.1 5.2 5.3 5.4 6.1 6.2 6.3 6.4 7.1 7.2 7.3 8.1 8.2 8.3 8.4 "
    "9.1 9.2 9.3",
}


def headings(path):
    """The anchors of a notebook's headings, as Jupyter makes them."""
    cells = json.loads(path.read_text("utf-8"))["cells"]
    prose = "\n".join("".join(cell["source"]) for cell in cells if cell["cell_type"] == "markdown")
    return {title.strip().replace(" ", "-") for title in re.findall(r"(?m)^#+ (.*)$", prose)}


def test_every_link_leads_to_a_heading():
    links = re.findall(r"\]\(([^)#\s]+\.ipynb)#([^\s]+?)\)(?=[\s,;|])", LEDGER)
    assert len(links) == LEDGER.count(".ipynb") > 50
    for name, anchor in links:
        assert anchor in headings(FOLDER / name), f"{name} has no heading {anchor}"


def test_every_row_has_a_verdict():
    rows = re.findall(r"(?m)^\| (?!A says|B says|---)(.*) \|$", LEDGER)
    assert len(rows) > 90
    for row in rows:
        parts = row.split(" | ")
        assert len(parts) == 3 or (len(parts) == 2 and row.endswith("|")), row
        assert parts[1].strip(), row


@pytest.mark.parametrize("article", SECTIONS)
def test_every_section_occurs(article):
    part = LEDGER.partition(f"# Article {article}\n")[2].partition("\n# Article")[0]
    for section in SECTIONS[article].split():
        chapter = section.partition(".")[0]
        table = part.partition(f"## {article} {chapter} ")[2].partition("\n## ")[0]
        assert re.search(rf"\b{re.escape(section)}(?!\d)", table), f"{article} {section}"


@pytest.mark.parametrize("article", SECTIONS)
def test_the_list_of_sections_is_that_of_the_article(article):
    path = ARTICLES / f"residual-layernorm-gpt2-{article.lower()}.txt"
    if not path.exists():
        pytest.skip("the articles are not here")
    found = re.findall(r"(?m)^### (\d+\.\d+) ", path.read_text("utf-8"))
    assert found == SECTIONS[article].split()
    chapters = re.findall(r"(?m)^## (\d+)\.", path.read_text("utf-8"))
    assert set(chapters) <= set(re.findall(rf"(?m)^## {article} (\d+) ", LEDGER))
