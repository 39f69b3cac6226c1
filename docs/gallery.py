"""The page of the experiments, made of ``results/`` when the site is built: what each claims, what
came out, and its picture. Run by MkDocs."""

import csv
import itertools
from pathlib import Path

import mkdocs_gen_files

RESULTS = Path(__file__).parent.parent / "results"

INTRODUCTION = """\
# The evidence

Every claim below is a script of `experiments/`
that `make experiments` runs again; the figures are those of `results/claims.csv`. A claim that is
not reproduced stays in the table, with the difference and the reason.
"""


def cell(text: str) -> str:
    """A text as a cell of a Markdown table."""
    return text.replace("|", "\\|").replace("\n", " ")


def copy_pictures() -> None:
    """Pictures of the experiments and of the default sweep, beside the pages that show them."""
    for path in sorted((*RESULTS.glob("*.[ps][nv]g"), *RESULTS.glob("cpu/*.[ps][nv]g"))):
        with mkdocs_gen_files.open(f"figures/{path.name}", "wb") as copy:
            copy.write(path.read_bytes())


def picture(name: str) -> str:
    """The picture of an experiment, if it has one; SVG rather than PNG."""
    for suffix in (".svg", ".png"):
        if (RESULTS / f"{name}{suffix}").exists():
            return f"![{name}](figures/{name}{suffix})"
    return ""


def section(name: str, rows: list[dict[str, str]]) -> str:
    """The claims of one experiment, and its picture."""
    lines = [f"## {name.replace('_', ' ').capitalize()}", ""]
    lines += ["| claim | source | published | ours | |", "| --- | --- | --- | --- | --- |"]
    for row in rows:
        verdict = row["verdict"] + (f": {row['reason']}" if row["reason"] else "")
        figures = (row["claim"], row["source"], row["published"], row["ours"], verdict)
        lines.append(f"| {' | '.join(map(cell, figures))} |")
    return "\n".join([*lines, "", picture(name), ""])


copy_pictures()
with (RESULTS / "claims.csv").open(encoding="utf-8", newline="") as file:
    claims = list(csv.DictReader(file))
with mkdocs_gen_files.open("experiments.md", "w") as page:
    print(INTRODUCTION, file=page)
    for name, rows in itertools.groupby(claims, key=lambda row: row["experiment"]):
        print(section(name, list(rows)), file=page)
