"""Save the figures of the notebook that the pages in docs show, from the outputs of the notebook.

python bench/notebook_figures.py
"""

from __future__ import annotations

import base64
import json
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
# File in bench/figures -> title of the plot
TITLES = {
    "notebook-blocks.png": "Twenty blocks of the training data",
    "notebook-learning-curve.png": "Learning curve",
}


def find_figure(cells: list[dict], title: str) -> bytes:
    """Return the PNG that the cell with this title plotted. Ends the script if there is none, or more than one."""
    figures = [
        output["data"]["image/png"]
        for cell in cells
        if cell["cell_type"] == "code" and f'title="{title}"' in "".join(cell["source"])
        for output in cell["outputs"]
        if "image/png" in output.get("data", {})
    ]
    if len(figures) != 1:
        sys.exit(
            f"notebook.ipynb has {len(figures)} figures with the title {title!r} instead of one. Run make notebook."
        )
    return base64.b64decode(figures[0])


def main() -> None:
    cells = json.loads((ROOT / "notebook.ipynb").read_text(encoding="utf-8"))["cells"]
    for name, title in TITLES.items():
        (ROOT / "bench/figures" / name).write_bytes(find_figure(cells, title))


if __name__ == "__main__":
    main()
