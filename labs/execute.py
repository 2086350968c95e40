"""``make notebooks``: run every notebook from top to bottom and commit what came out.

Execution times, and widgets, are left out: they differ from run to run, and what is left of a widget without its kernel is an
error in its place. Its text stays.
"""

from __future__ import annotations

import sys
from pathlib import Path

import nbformat
from nbclient import NotebookClient

HERE = Path(__file__).parent
WIDGET = "application/vnd.jupyter.widget-view+json"


def execute(path: Path) -> None:
    """Run one notebook in its own folder; raises at the first cell that fails. The file is written only when all ran."""
    notebook = nbformat.read(path, as_version=4)
    client = NotebookClient(notebook, timeout=300, record_timing=False, store_widget_state=False)
    client.execute(cwd=str(HERE))
    notebook.metadata.pop("widgets", None)
    for output in [output for cell in notebook.cells for output in cell.get("outputs", [])]:
        output.get("data", {}).pop(WIDGET, None)
    nbformat.validate(notebook)
    nbformat.write(notebook, path)


if __name__ == "__main__":
    for name in sys.argv[1:] or sorted(str(path) for path in HERE.glob("*.ipynb")):
        print(name, flush=True)
        execute(Path(name))
