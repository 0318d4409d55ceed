"""The rooms of the package: data flows one way, as docs/architecture.md states."""

import ast
import re
from graphlib import TopologicalSorter
from pathlib import Path

from project import ROOT

PACKAGE = ROOT / "amae"
FREE = {"runtime", "settings"}  # every room may import these
MODULES = {".".join(path.relative_to(ROOT).with_suffix("").parts): path for path in PACKAGE.rglob("*.py")}
MODULES = {name.removesuffix(".__init__"): path for name, path in MODULES.items()}


def imports_of(name: str, path: Path) -> set[str]:
    """The modules of this package that a module imports, at its top or inside a function."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{path}: a relative import; write the whole name"
            found |= {
                full if (full := f"{node.module}.{alias.name}") in MODULES else node.module for alias in node.names
            }
    return {each for each in found if each in MODULES} - {name, "amae"}


ARROWS = {name: imports_of(name, path) for name, path in MODULES.items() if name != "amae"}


def room(module: str) -> str:
    """The folder, or the module at the top, that a module belongs to."""
    return module.split(".")[1]


def stated_order() -> list[str]:
    """The rooms in the order of the table in docs/architecture.md, sources first."""
    rows = re.findall(r"^\| `amae/(\w+)(?:\.py|/)` \|", (ROOT / "docs/architecture.md").read_text(), re.M)
    assert len(rows) == len(set(rows))
    return rows


def test_every_room_is_in_the_stated_order():
    assert set(stated_order()) == {room(name) for name in ARROWS}


def test_a_module_imports_only_from_rooms_above_its_own():
    order = stated_order()
    upward = [
        f"{name} -> {target}"
        for name, targets in ARROWS.items()
        for target in targets
        if room(target) not in FREE and order.index(room(target)) > order.index(room(name))
    ]
    assert not upward


def test_there_are_no_circles():
    assert list(TopologicalSorter(ARROWS).static_order())  # raises CycleError, which names the circle


def test_the_workflow_imports_the_plan_alone():
    texts = [path.read_text() for path in (ROOT / "workflow").rglob("*") if path.suffix == ".smk"]
    texts.append((ROOT / "workflow/Snakefile").read_text())
    imported = {name for text in texts for name in re.findall(r"^ *(?:from|import) (amae[.\w]*)", text, re.M)}
    assert imported
    assert all(name.startswith("amae.plan") for name in imported), imported
