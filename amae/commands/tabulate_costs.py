"""A table of costs."""

from pathlib import Path
from typing import Annotated

from amae.commands import parameters as p
from amae.evaluation import results
from amae.evaluation.rows import parse_json, paths_of
from amae.runtime.files import read_record, write_csv

CAPTION = (
    "Jobs, wall-clock hours in total, largest peak memory of a job, and size of the files that a method makes. AMAE "
    "stage 2 needs stage 1 as well, whose pseudo-labels it trains on; what starts from f_0 (AMAE, Mask Rec., the "
    "references on its features) needs its pre-training, which has a row where it was done here."
)


def tabulate_costs(
    *,
    records: Annotated[str, p.meaning("records of jobs by method, as JSON")],
    table: p.Table,
    markdown: p.Markdown,
    latex: p.Latex,
    caveats: p.Caveats = "",
) -> None:
    """Report what each method takes, from the records of its jobs, as CSV, Markdown and LaTeX."""
    given = parse_json(records, "--records", dict)
    paths = {method: paths_of(files, "--records") for method, files in given.items()}
    made = {method: [read_record(path) for path in of_method] for method, of_method in paths.items()}
    sizes = {method: _bytes_of({path.parent for path in of_method}) for method, of_method in paths.items()}
    costs = results.cost_table(made, sizes)
    write_csv(costs, table)
    caption = f"{CAPTION} {caveats}".rstrip()
    results.write_markdown(results.readable_costs(costs), markdown, caption)
    results.write_latex(results.readable_costs(costs), latex, caption, "tab:costs")


def _bytes_of(folders: set[Path]) -> int:
    """Size of the files in these folders; a folder inside another is counted once."""
    files = {file for folder in folders for file in folder.rglob("*") if file.is_file()}
    return sum(file.stat().st_size for file in files)
