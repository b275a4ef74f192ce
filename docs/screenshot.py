"""Take docs/explorer.png anew: python docs/screenshot.py (needs Chromium)

The page with its own prompt and the bundled model, at 1,280 pixels, with a head's weights open.
"""

import sys
import tempfile
from pathlib import Path

DOCS = Path(__file__).resolve().parent
sys.path[:0] = [str(DOCS.parent), str(DOCS.parent / "tests")]

from browser import Browser

LAYER, HEAD = 2, 1


def main():
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        with Browser(folder) as browser:
            page = browser.open((DOCS / "explorer.html").as_uri(), width=1280, height=900)
            page.settle()
            page.click(f"#layers button:nth-of-type({LAYER + 1})")
            page.click(f"#heads button:nth-of-type({HEAD + 1})")
            page.settle()
            page.take_picture(DOCS / "explorer.png")


if __name__ == "__main__":
    main()
