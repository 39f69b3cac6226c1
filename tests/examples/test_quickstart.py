"""The notebook runs from its first cell to its last, and prints what is committed."""

from pathlib import Path

import pytest

nbclient = pytest.importorskip("nbclient")
nbformat = pytest.importorskip("nbformat")

NOTEBOOK = Path(__file__).parents[2] / "examples" / "quickstart.ipynb"


def printed(notebook):
    """What each cell shows, by kind: the texts as they are, of pictures and HTML that there are."""
    return [
        {
            kind: "" if kind in ("image/png", "text/html") else text
            for output in cell.outputs
            for kind, text in sorted(output.data.items())
        }
        for cell in notebook.cells
        if cell.cell_type == "code"
    ]


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore:.*TCP without encryption")
def test_the_quick_start_runs_and_prints_what_is_committed(tmp_path):
    committed = nbformat.read(NOTEBOOK, as_version=4)
    executed = nbformat.read(NOTEBOOK, as_version=4)
    where = {"metadata": {"path": str(tmp_path)}}
    nbclient.NotebookClient(executed, timeout=300, resources=where).execute()
    assert printed(executed) == printed(committed)
    kinds = [kind for cell in printed(committed) for kind in cell]
    assert [kinds.count(kind) for kind in ("text/html", "image/png")] == [2, 2]
