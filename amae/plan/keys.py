"""The page of settings, made from their dataclasses: `python -m amae.plan.keys > docs/keys.md`."""

import dataclasses

from amae.comparators.methods import METHODS
from amae.plan.compared import SHARED
from amae.settings import SECTIONS, SplitSettings, limits

TITLE = """# Settings

Every setting with its meaning, range and default; the defaults are the paper's values and the published recipes. A key
`section.name` of the configuration (in a preset, in `overrides` or in a variant) is the option `--section.name` of a
command, with dashes for underscores. Made by `uv run python -m amae.plan.keys`; the other keys are in
[config/README.md](../config/README.md).
"""


def page() -> str:
    """The page, in Markdown."""
    parts = [TITLE]
    sections = {**SECTIONS, "splits (of a data set)": SplitSettings}
    own = {name: each.settings for name, each in METHODS.items() if name not in SHARED}
    for kind in dict.fromkeys(own.values()):
        sections[f"comparators: {', '.join(name for name in own if own[name] is kind)}"] = kind
    for name, settings in sections.items():
        if fields := dataclasses.fields(settings):
            rows = [_row(field) for field in fields]
            head = ["| key | default | range | meaning |", "|---|---|---|---|"]
            parts.append("\n".join([f"## {name}", "", settings.__doc__.splitlines()[0], "", *head, *rows, ""]))
    return "\n".join(parts)


def _row(field: dataclasses.Field) -> str:
    about = field.metadata
    shown = "null" if field.default is None else str(field.default).lower()
    default = "required" if field.default is dataclasses.MISSING else shown
    allowed = ", ".join(about["choices"]) or limits(field)
    cells = [f"`{field.name}`", default, allowed, about["description"].replace("|", "&#124;")]
    return f"| {' | '.join(cells)} |"


if __name__ == "__main__":
    print(page(), end="")
