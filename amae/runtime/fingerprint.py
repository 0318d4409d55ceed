"""A hash of the code behind one function, so that a workflow reruns what an edit touches and nothing else.

The code is parsed, never imported. Every name is followed from the function to the definition it stands for: in the
same module, through project imports (those inside functions too), re-exports and attributes of modules. Comments,
docstrings and formatting do not count, nor does code that is not reached. Other packages count by what is imported
from them. What is known only at run time is not seen: names in strings, data files.
"""

import ast
import hashlib
from collections import ChainMap
from collections.abc import Iterable
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

Reference = tuple[str, tuple[str, ...]]  # a module and attributes to follow from it; none: the whole module

_FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)
_COMPREHENSIONS = (ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp)
_IMPORTS = (ast.Import, ast.ImportFrom)
_ASSIGNMENTS = (ast.Assign, ast.AnnAssign, ast.AugAssign, getattr(ast, "TypeAlias", ast.Assign))  # Python 3.12 on


class Code(NamedTuple):
    """Statements as text without comments and layout, and what they refer to."""

    text: str
    references: frozenset[Reference]


class Module(NamedTuple):
    """The names that a module defines and imports, and the statements that run whichever of them is wanted."""

    definitions: dict[str, Code]
    imports: dict[str, Reference]
    bare: Code
    dynamic: bool  # has names that cannot be listed: a star import, __getattr__


def fingerprint(name: str, root: str | Path | None = None) -> str:
    """Hash of all project code reachable from a function, as 16 hexadecimal digits.

    Args:
        name: "module:function", such as "amae.commands.train:pretrain". The project is the top-level package of that
            module.
        root: folder that holds the package; by default the one that holds this package.

    Raises ValueError naming a module or an attribute that is not found, and SyntaxError for code that does not parse.
    Versions of Python that write syntax trees differently give different hashes.
    """
    module, _, function = name.partition(":")
    if not (module and function):
        raise ValueError(f"{name!r}: expected 'module:function', such as 'amae.cli:main'")
    folder = Path(__file__).resolve().parents[2] if root is None else Path(root)
    code = _reachable((module, (function,)), folder)
    return hashlib.sha256(repr(sorted(code.items())).encode()).hexdigest()[:16]


def _reachable(start: Reference, root: Path) -> dict[Reference, str]:
    """The text of every definition, import and bare statement that `start` leads to."""
    project = start[0].partition(".")[0]
    found: dict[Reference, str] = {}
    seen: set[Reference] = set()
    modules: dict[str, Module] = {}
    pending = [start]
    while pending:
        name, path = reference = pending.pop()
        if reference in seen or name.partition(".")[0] != project:
            continue
        seen.add(reference)
        if "." in name:
            pending.append((name.rpartition(".")[0], ("__name__",)))  # importing a module runs its packages
        if name not in modules:
            modules[name] = _load(name, root)
            found[name, ()] = modules[name].bare.text
            pending.extend(modules[name].bare.references)
        module = modules[name]
        head, rest = path[0] if path else "", path[1:]
        if head in module.definitions:
            found[name, (head,)] = module.definitions[head].text
            pending.extend(module.definitions[head].references)
        if head in module.imports:
            target, attributes = module.imports[head]
            found[name, (head, "import")] = f"{target}:{'.'.join(attributes)}"
            pending.append((target, attributes + rest))
        if head in module.definitions or head in module.imports or (head.startswith("__") and head.endswith("__")):
            continue
        if head and _file(f"{name}.{head}", root):
            pending.append((f"{name}.{head}", rest))
        elif not head or module.dynamic:
            pending.extend((name, (each,)) for each in (*module.definitions, *module.imports))
        else:
            raise ValueError(f"{name}:{head}: not defined in {_file(name, root)}")
    return found


def _file(name: str, root: Path) -> Path | None:
    path = root.joinpath(*name.split("."))
    return next((p for p in (path / "__init__.py", path.with_name(f"{path.name}.py")) if p.is_file()), None)


def _load(name: str, root: Path) -> Module:
    path = _file(name, root)
    if path is None:
        raise ValueError(f"{name}: no such module in {root}")
    package = name if path.name == "__init__.py" else name.rpartition(".")[0]
    return _parse(name, package, path.read_text(encoding="utf-8"), path)


@lru_cache(maxsize=1024)
def _parse(name: str, package: str, source: str, path: Path) -> Module:
    definitions: dict[str, list[ast.stmt]] = {}
    imports: dict[str, Reference] = {}
    bare: list[ast.stmt] = []
    for statement in _without_docstrings(ast.parse(source, path).body):
        if isinstance(statement, ast.If) and ast.unparse(statement.test) == "__name__ == '__main__'":
            continue
        if not _only_declares(statement):
            bare.append(statement)
        for bound, target in _bound([statement], package).items():
            if target:
                imports[bound] = target
            else:
                definitions.setdefault(bound, []).append(statement)
    scope = ChainMap({bound: (name, (bound,)) for bound in (*definitions, *imports)})
    stars = [target for bound, target in imports.items() if bound.startswith("*")]
    rest = _code(bare, scope, package)
    return Module(
        definitions={bound: _code(statements, scope, package) for bound, statements in definitions.items()},
        imports=imports,
        bare=rest._replace(references=rest.references.union(stars)),
        dynamic="__getattr__" in definitions or bool(stars),
    )


def _code(statements: list[ast.stmt], scope: ChainMap, package: str) -> Code:
    visitor = _References(scope, package)
    for statement in statements:
        visitor.visit(statement)
    return Code("\n".join(ast.dump(statement) for statement in statements), frozenset(visitor.found))


def _only_declares(statement: ast.stmt) -> bool:
    """Whether a top-level statement matters only to those who use the names that it binds."""
    if isinstance(statement, ast.If):  # if TYPE_CHECKING: imports
        return all(isinstance(part, _IMPORTS) for part in statement.body + statement.orelse)
    if isinstance(statement, _ASSIGNMENTS):  # to names; X.y = 1 and X[0] = 1 change something that others may use
        changed = (node for node in ast.walk(statement) if isinstance(node, ast.Attribute | ast.Subscript))
        return not any(isinstance(node.ctx, ast.Store) for node in changed)
    return isinstance(statement, (*_FUNCTIONS, ast.ClassDef, *_IMPORTS))


def _bound(nodes: Iterable[ast.AST], package: str) -> dict[str, Reference | None]:
    """The names that nodes bind in their own scope: imports with what they stand for, all others with None."""
    names: dict[str, Reference | None] = {}
    imports: dict[str, Reference | None] = {}
    declared_global: set[str] = set()
    pending = list(nodes)
    while pending:
        node = pending.pop()
        if isinstance(node, _IMPORTS):
            imports |= _imported(node, package)
        elif isinstance(node, ast.Global):
            declared_global |= set(node.names)
        elif isinstance(node, (*_FUNCTIONS, ast.ClassDef)):
            names[node.name] = None
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            names[node.id] = None
        elif not isinstance(node, (*_COMPREHENSIONS, ast.Lambda)):
            pending.extend(ast.iter_child_nodes(node))
    return {name: target for name, target in (names | imports).items() if name not in declared_global}


def _imported(statement: ast.Import | ast.ImportFrom, package: str) -> dict[str, Reference]:
    """The names that an import statement binds, and what they stand for; a star is kept as "*module"."""
    if isinstance(statement, ast.Import):
        whole = {alias.asname: (alias.name, ()) for alias in statement.names if alias.asname}
        tops = [alias.name.partition(".")[0] for alias in statement.names if not alias.asname]
        return whole | {top: (top, ()) for top in tops}
    base = statement.module or ""
    if statement.level:
        parents = package.split(".")[: len(package.split(".")) - statement.level + 1]
        base = ".".join([*parents, base]).rstrip(".")
    names = [alias for alias in statement.names if alias.name != "*"]
    stars = {f"*{base}": (base, ())} if len(names) < len(statement.names) else {}
    return stars | {alias.asname or alias.name: (base, (alias.name,)) for alias in names}


def _without_docstrings(statements: list[ast.stmt]) -> list[ast.stmt]:
    """The statements, and those inside them, without any that is only a string."""
    kept = [each for each in statements if not (isinstance(each, ast.Expr) and _is_string(each.value))]
    for statement in kept:
        for field in ("body", "orelse", "finalbody", "handlers", "cases"):
            if inner := getattr(statement, field, None):
                setattr(statement, field, _without_docstrings(inner))
    return kept


def _is_string(node: ast.expr) -> bool:
    return isinstance(node, ast.Constant) and isinstance(node.value, str)


class _References(ast.NodeVisitor):
    """Collects what code refers to outside itself; a name bound in an inner scope hides the module's."""

    def __init__(self, scope: ChainMap, package: str) -> None:
        self.scope, self.package, self.found = scope, package, set()

    def add(self, name: str, attributes: tuple[str, ...] = ()) -> None:
        if target := self.scope.get(name):
            self.found.add((target[0], target[1] + attributes))

    def inside(self, bound: dict[str, Reference | None], nodes: Iterable[ast.AST]) -> None:
        outer, self.scope = self.scope, self.scope.new_child(bound)
        for node in nodes:
            self.visit(node)
        self.scope = outer

    def visit_Name(self, node: ast.Name) -> None:
        self.add(node.id)

    def visit_Attribute(self, node: ast.Attribute) -> None:
        attributes, value = (node.attr,), node.value
        while isinstance(value, ast.Attribute):
            attributes, value = (value.attr, *attributes), value.value
        if isinstance(value, ast.Name):
            self.add(value.id, attributes)
        else:
            self.visit(value)

    def visit_Global(self, node: ast.Global) -> None:
        for name in node.names:
            self.add(name)

    def visit_FunctionDef(self, node: ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda) -> None:
        body = node.body if isinstance(node.body, list) else [node.body]
        for field, value in ast.iter_fields(node):  # decorators, defaults and annotations belong to the outer scope
            for part in value if isinstance(value, list) else [value]:
                if field != "body" and isinstance(part, ast.AST):
                    self.visit(part)
        arguments = {each.arg: None for each in ast.walk(node.args) if isinstance(each, ast.arg)}
        self.inside(arguments | _bound(body, self.package), body)

    visit_AsyncFunctionDef = visit_Lambda = visit_FunctionDef

    def visit_ClassDef(self, node: ast.ClassDef) -> None:
        bound = _bound(node.body, self.package)
        self.inside({name: target for name, target in bound.items() if target}, ast.iter_child_nodes(node))

    def visit_ListComp(self, node: ast.ListComp | ast.SetComp | ast.DictComp | ast.GeneratorExp) -> None:
        self.visit(node.generators[0].iter)
        bound = _bound((generator.target for generator in node.generators), self.package)
        self.inside(bound, ast.iter_child_nodes(node))

    visit_SetComp = visit_DictComp = visit_GeneratorExp = visit_ListComp
