"""A table as a page of the report."""

from amae.commands import parameters as p
from amae.figures.report import write_table_page
from amae.runtime.files import read_csv


def show_table(*, shown: p.file("table to show (.csv)"), page: p.Page) -> None:
    """Show a table as a page of the report."""
    write_table_page(read_csv(shown), shown.name, page)
