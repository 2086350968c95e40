"""A notebook's kernel finds the session's stack."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import nbformat

ROOT = Path(__file__).parents[2]
CODE = """\
import os
from reference.stack import endpoints
endpoints().backend, all(os.environ[name] == url for name, url in endpoints().as_env().items())"""


def test_a_kernel_inherits_the_addresses(tmp_path: Path) -> None:
    """``pytest some.ipynb`` alone starts a stack for it and stops it afterwards."""
    cell = nbformat.v4.new_code_cell(CODE, execution_count=1)
    cell.outputs = [nbformat.v4.new_output("execute_result", {"text/plain": "('env', True)"}, execution_count=1)]
    notebook = nbformat.v4.new_notebook(cells=[cell])
    path = ROOT / "tests" / "stack" / f".{tmp_path.name}.ipynb"
    nbformat.write(notebook, path)
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("EDA_", "PYTEST_"))}
    words = [sys.executable, "-m", "pytest", "--nbval-sanitize-with=/dev/null", "-p", "no:cacheprovider", "-q", str(path)]
    try:
        said = subprocess.run(words, cwd=ROOT, env=clean, capture_output=True, text=True, check=False)
    finally:
        path.unlink()
    assert (said.returncode, said.stdout.splitlines()[-1][:8]) == (0, "1 passed"), said.stdout
