"""The notebook: all its cells run in turn, and no output is committed with it."""

import ast
import json
import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

ROOT = Path(__file__).parent.parent
NOTEBOOK = ROOT / "notebooks" / "sampling_colab.ipynb"


def code_cells() -> list[dict]:
    notebook = json.loads(NOTEBOOK.read_text("utf-8"))
    return [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]


def run_cell(source: str, names: dict):
    """Runs a cell; returns the value of its last expression, which a notebook shows."""
    tree = ast.parse(source)
    last = tree.body.pop() if isinstance(tree.body[-1], ast.Expr) else None
    exec(compile(tree, str(NOTEBOOK), "exec"), names)
    if last is not None:
        shown = ast.Expression(last.value)
        return eval(compile(shown, str(NOTEBOOK), "eval"), names)
    return None


def test_no_run_is_committed():
    cells = code_cells()
    assert len(cells) == 5
    assert all(cell["outputs"] == [] for cell in cells)
    assert all(cell["execution_count"] is None for cell in cells)


@pytest.mark.slow
def test_all_cells_run_on_the_cpu(tmp_path, monkeypatch):
    """Fewer steps than the sliders say, else as committed, with the demo weights."""
    monkeypatch.chdir(tmp_path)
    os.symlink(ROOT / "docs", "docs")
    names: dict = {}
    shown = []
    for cell in code_cells():
        source = "".join(cell["source"])
        shown.append(run_cell(source.replace("steps = 16 ", "steps = 4 "), names))
        if isinstance(shown[-1], Image.Image):
            shown[-1].load()
    assert shown[0] is None
    assert shown[1].startswith("stages base, sr256 on [CpuDevice")
    for sheet, columns, cell in ((shown[2], 4, 256), (shown[3], 5, 160)):
        assert sheet.width > columns * cell
    assert shown[4].height > 3 * 160
    assert names["pictures"].shape == (4, 256, 256, 3)
    assert names["steps"] == 4
    blue = names["pictures"][:, :8].reshape(-1, 3).mean(axis=0)
    assert blue[2] > 2 * blue[0]  # the ground that the prompt names
    none, static, dynamic = (row.astype(int) for row in names["rows"])
    assert np.abs(none - static).mean() > 1
    assert np.abs(static - dynamic).mean() > 1
