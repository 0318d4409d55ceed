"""A hash of the code behind a module, so that a workflow reruns what an edit touches and nothing else.

The code is parsed, never imported: a module counts with every module of the project that it imports, at its top or
inside a function, and so on. Comments, docstrings and formatting do not count. Nor do the folders of modules, so that a
module may move: an import of the project counts by the names that it binds and the code that it leads to. Other
packages count by what is imported from them. What is known only at run time is not seen: names in strings, data files.
"""

import ast
import hashlib
from collections.abc import Mapping
from functools import lru_cache
from itertools import groupby
from pathlib import Path

OWN = __name__.partition(".")[0]  # this package counts for another one too, which calls it
EMPTY = ast.dump(ast.Module([], []))
_Import = ast.Import | ast.ImportFrom


# every command imports them: help texts, and settings, whose values count by themselves wherever a fingerprint does
IGNORED = frozenset({"amae.commands.parameters", "amae.settings", "amae.comparators.settings"})


def fingerprint(module: str, root: str | Path | None = None, ignored: frozenset[str] = IGNORED) -> str:
    """Hash of all project code that a module reaches, as 16 hexadecimal digits.

    Args:
        module: such as "amae.commands.pretrain". The project is its top-level package and this one.
        root: folder that contains the package; by default the one that contains this package.
        ignored: modules that do not count.

    Raises ValueError naming a module that is not found, and SyntaxError for code that does not parse. Versions of
    Python that write syntax trees differently give different hashes.
    """
    home = Path(__file__).resolve().parents[2]
    folder = home if root is None else Path(root)
    folders = {OWN: home, module.partition(".")[0]: folder}
    if file_of(module, folders) is None:
        raise ValueError(f"{module}: no such module in {folder}")
    found: dict[str, tuple[str, set[str]]] = {}
    pending = {module}
    while pending:
        name = pending.pop()
        path = file_of(name, folders)
        text, imports = _parse(name, path, path.read_text(encoding="utf-8"))
        named = {f"{base}.{each}" if each and file_of(f"{base}.{each}", folders) else base for base, each in imports}
        found[name] = text, {each for each in named if file_of(each, folders)}
        # importing a module runs the packages around it
        reached = {each for each in (*found[name][1], name.rpartition(".")[0]) if each and file_of(each, folders)}
        pending |= reached - found.keys() - ignored
    # a module by its text and the texts of what it imports, sorted; an empty one, as of a new folder, is nothing
    texts = {name: text for name, (text, _) in found.items() if text != EMPTY}
    whole = sorted(
        [text, *sorted(texts[each] for each in found[name][1] & texts.keys())] for name, text in texts.items()
    )
    return hashlib.sha256(repr(whole).encode()).hexdigest()[:16]


def file_of(name: str, folders: Mapping[str, Path]) -> Path | None:
    """The file of a module whose top-level package lies in one of these folders, by package; None for any other."""
    package = name.partition(".")[0]
    if package not in folders:
        return None
    path = folders[package].joinpath(*name.split("."))
    return next((p for p in (path / "__init__.py", path.with_name(f"{path.name}.py")) if p.is_file()), None)


@lru_cache(maxsize=1024)
def _parse(name: str, path: Path, source: str) -> tuple[str, frozenset[tuple[str, str]]]:
    """A module as text without comments, docstrings and its imports of the project; what these name."""
    projects = {name.partition(".")[0], OWN}
    package = name if path.name == "__init__.py" else name.rpartition(".")[0]
    stripped = _Stripped(projects, package)
    text = ast.dump(stripped.visit(ast.parse(source, path)))
    return text, frozenset(stripped.imports)


def _targets(node: _Import, package: str) -> set[tuple[str, str]]:
    """What an import statement names: `from a import b` means the module a.b, or b of the module a."""
    if isinstance(node, ast.Import):
        return {(alias.name, "") for alias in node.names}
    base = node.module or ""
    if node.level:
        parents = package.split(".")[: len(package.split(".")) - node.level + 1]
        base = ".".join([*parents, base]).rstrip(".")
    return {(base, alias.name) for alias in node.names}


class _Stripped(ast.NodeTransformer):
    """Removes docstrings, the modules of the project that imports name, and imports for type checkers alone."""

    def __init__(self, projects: set[str], package: str) -> None:
        self.projects, self.package, self.imports = projects, package, set[tuple[str, str]]()

    def visit_Import(self, node: _Import) -> ast.AST:
        """Keep imports of other packages; of the project's keep the names that are taken and bound."""
        own = {each for each in _targets(node, self.package) if each[0].partition(".")[0] in self.projects}
        self.imports |= own
        if not own:
            return node
        is_from = isinstance(node, ast.ImportFrom)
        return ast.ImportFrom("", node.names if is_from else [ast.alias("", each.asname) for each in node.names], 0)

    visit_ImportFrom = visit_Import

    def visit_Module(self, node: ast.Module) -> ast.AST:
        """Sort imports that follow each other."""
        runs = [list(run) for _, run in groupby(self.generic_visit(node).body, lambda each: isinstance(each, _Import))]
        node.body = [
            each for run in runs for each in (sorted(run, key=ast.dump) if isinstance(run[0], _Import) else run)
        ]
        return node

    def visit_If(self, node: ast.If) -> ast.AST | list[ast.AST]:
        """Leave out blocks that only a type checker reads, and what runs only as a script, but not their `else`."""
        if ast.unparse(node.test) in ("TYPE_CHECKING", "__name__ == '__main__'"):
            return [self.visit(each) for each in node.orelse]
        return self.generic_visit(node)

    def visit_Expr(self, node: ast.Expr) -> ast.AST | None:
        """Leave out statements that are only a string."""
        is_string = isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)
        return None if is_string else self.generic_visit(node)
