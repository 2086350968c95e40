"""How JupyterLab opens: with the list of labs rendered and the file browser folded away, so that there is room for a board
beside the notebook; and with the labs' own pictures shown before anything was run.

Both are Jupyter's own means: a workspace that is there unless somebody has made it already, and a signature for each notebook
as it is. A notebook that was changed is signed again by Jupyter when it is run, as any other.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Final

__all__ = ["WORKSPACE", "sign", "unfold"]

WORKSPACE: Final = "labs"


def sign(folder: Path) -> None:
    """Trust the notebooks in this folder: what is not trusted is shown without its pictures."""
    import nbformat
    from nbformat.sign import NotebookNotary

    notary = NotebookNotary()
    for path in sorted(folder.glob("*.ipynb")):
        notary.sign(nbformat.read(path, as_version=4))


def unfold(page: str) -> None:
    """Have a workspace in which only this page is open, unless there is one; where somebody has put things, they stay."""
    from jupyterlab.commands import get_workspaces_dir
    from jupyterlab_server.workspaces_handler import WorkspacesManager

    workspaces = WorkspacesManager(get_workspaces_dir())
    if any(known["metadata"]["id"] == WORKSPACE for known in workspaces.list_workspaces()):
        return
    workspaces.save(WORKSPACE, json.dumps(_workspace(page)))


def _workspace(page: str) -> dict[str, Any]:
    shown = f"markdownviewer-widget:{page}"
    layout = {
        "main": {"dock": {"type": "tab-area", "currentIndex": 0, "widgets": [shown]}, "current": shown},
        "left": {"collapsed": True, "visible": True, "widgets": []},
        "right": {"collapsed": True, "visible": True, "widgets": []},
    }
    opened = {"data": {"path": page, "factory": "Markdown Preview"}}
    return {"data": {"layout-restorer:data": layout, shown: opened}, "metadata": {"id": WORKSPACE}}
