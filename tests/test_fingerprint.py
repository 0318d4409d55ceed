"""Fingerprints: an edit changes the hash of exactly the modules that can reach the edited one."""

import dataclasses
import shutil
import time
from collections.abc import Callable
from pathlib import Path

import pytest

import amae
from amae.comparators.methods import METHODS, code_of
from amae.runtime.fingerprint import fingerprint

PACKAGE = {
    "p/__init__.py": '''
"""A package."""
__version__ = "1"
from p.reexported import shared as public
''',
    "p/cli.py": '''
"""Commands."""
import numpy as np
from p import data, public
from p.settings import Settings
import p.model as network
import p.losses

RATE = 0.1
UNUSED = 3

def register(function):
    return function

def helper(x, model):
    """Help."""
    return x * RATE  # scale

def idle():
    return UNUSED

@register
def train(settings: Settings, rate=data.DEFAULT):
    from p import late
    from p.text import slug as name

    total = [helper(x, network.build(settings)) for x in data.load()]
    return public(total), late.finish(), name, p.losses.mse(np.mean)

def shadow(helper, idle=None):
    data = [p for p in helper]
    return data.load, [idle for idle in data], (lambda train: train)(1)

if __name__ == "__main__":
    train(None)
''',
    "p/settings.py": """
from __future__ import annotations
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .types import Size
else:
    Size = complex

@dataclass(frozen=True)
class Settings:
    epochs: int = 1
    size: Size = None

    def steps(self):
        return self.epochs * STEPS

@dataclass
class Other:
    rate: int = 2

STEPS = 4
""",
    "p/types.py": "Size = int\nShape = tuple\n",
    "p/data.py": "DEFAULT = 5\ndef load():\n    return [1]\ndef save():\n    return 2\n",
    "p/model.py": "from p import model_parts as m\n"
    "def build(s):\n    return wrap(s)\ndef wrap(t):\n    return build(t), m\n",
    "p/model_parts.py": "def anything():\n    return 6\n",
    "p/losses.py": "from p import cli\nTABLE = {}\ndef mse(x):\n    return cli.helper(x, None)\nTABLE['mse'] = abs\n",
    "p/late.py": "import p.text\ndef finish():\n    return 7\ndef never():\n    return 8\n",
    "p/unused.py": "UNUSED = 3\n",
    "p/text.py": "def slug(x):\n    return 9\n",
    "p/reexported.py": "def shared(x):\n    return 10\ndef private(x):\n    return 11\nslug = 12\n",
}


@pytest.fixture
def edit(tmp_path: Path) -> Callable[[str, str, str], bool]:
    """Function (file, old, new): whether replacing text in a file of the package changes the hash of p.cli."""
    for name, text in PACKAGE.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text, encoding="utf-8")

    def changes(name: str, old: str, new: str, of: str = "p.cli") -> bool:
        path, text = tmp_path / name, PACKAGE[name]
        assert old in text
        before = fingerprint(of, tmp_path)
        path.write_text(text.replace(old, new), encoding="utf-8")
        after = fingerprint(of, tmp_path)
        path.write_text(text, encoding="utf-8")
        return before != after

    return changes


@pytest.mark.parametrize(
    ("name", "old", "new"),
    [
        ("p/cli.py", "x * RATE", "x + RATE"),  # a function it calls
        ("p/cli.py", "RATE = 0.1", "RATE = 0.2"),  # a constant of that function
        ("p/cli.py", "    return function", "    return print(function)"),  # its decorator
        ("p/cli.py", "@register\n", ""),
        ("p/cli.py", "data.DEFAULT", "6"),  # a default value
        ("p/data.py", "DEFAULT = 5", "DEFAULT = 6"),
        ("p/cli.py", "settings: Settings", "settings: int"),  # an annotation
        ("p/cli.py", "import numpy as np", "import scipy as np"),  # a package from elsewhere
        ("p/settings.py", "epochs: int = 1", "epochs: int = 2"),  # a class
        ("p/settings.py", "self.epochs * STEPS", "self.epochs + STEPS"),  # a method
        ("p/settings.py", "STEPS = 4", "STEPS = 5"),  # a constant that a method uses
        ("p/data.py", "return [1]", "return [2]"),  # a function of a module object
        ("p/model.py", "return wrap(s)", "return wrap(2)"),  # import ... as, and a cycle of functions
        ("p/model.py", "return build(t)", "return build(2)"),
        ("p/model_parts.py", "return 6", "return 7"),  # a module object handed on: all of it
        ("p/losses.py", "cli.helper", "cli.register"),  # import of a dotted name, and a cycle of modules
        ("p/losses.py", "TABLE['mse'] = abs", "TABLE['mse'] = any"),  # a statement run on import
        ("p/late.py", "return 7", "return 8"),  # an import inside the function
        ("p/text.py", "return 9", "return 8"),  # the same, renamed
        ("p/reexported.py", "return 10", "return 9"),  # a re-export
        ("p/__init__.py", "shared as public", "private as public"),
        ("p/cli.py", "from p.text import slug as name", "from p.text import slug"),  # a name that an import binds
        ("p/cli.py", "from p.text import", "from p.reexported import"),  # the same name from another module
        ("p/settings.py", "Size = complex", "Size = float"),  # what is not for type checkers
    ],
)
def test_edits_of_code_that_is_used_change_the_hash(edit, name: str, old: str, new: str) -> None:
    assert edit(name, old, new)


@pytest.mark.parametrize(
    ("name", "old", "new"),
    [
        ("p/cli.py", "  # scale", "  # multiply"),  # a comment
        ("p/cli.py", '"""Help."""', '"""Say more."""'),  # docstrings
        ("p/cli.py", '"""Commands."""', ""),
        ("p/cli.py", "def helper(x, model):", "\n\ndef helper(\n    x,\n    model,\n):"),  # layout
        ("p/cli.py", "    train(None)", "    train(1)"),  # what runs only as a script
        ("p/types.py", "Size = int", "Size = float"),  # an import for type checkers alone
        ("p/unused.py", "UNUSED = 3", "UNUSED = 4"),  # a module that is not reached
    ],
)
def test_edits_of_anything_else_do_not(edit, name: str, old: str, new: str) -> None:
    assert not edit(name, old, new)


def test_a_module_that_moves_leaves_the_hash_as_it_is(edit, tmp_path: Path) -> None:
    before = fingerprint("p.cli", tmp_path)
    (tmp_path / "p/room").mkdir()
    (tmp_path / "p/room/__init__.py").write_text("")
    (tmp_path / "p/text.py").rename(tmp_path / "p/room/words.py")
    cli = tmp_path / "p/cli.py"
    cli.write_text(cli.read_text().replace("from p.text import", "from p.room.words import"))
    late = tmp_path / "p/late.py"
    late.write_text(late.read_text().replace("import p.text", "import p.room.words"))
    found = fingerprint("p.cli", tmp_path)
    assert found == before  # a new folder is an empty package more
    (tmp_path / "p/room/words.py").write_text("def slug(x):\n    return 8\n")
    assert fingerprint("p.cli", tmp_path) != found


def test_the_order_of_imports_does_not_count(edit) -> None:
    lines = ["import p.model as network\n", "import p.losses\n"]
    assert not edit("p/cli.py", "".join(lines), "".join(reversed(lines)))


def test_a_package_need_not_have_a_file_of_its_own(tmp_path: Path) -> None:
    (tmp_path / "space").mkdir()
    (tmp_path / "space/m.py").write_text("X = 1\n")
    assert fingerprint("space.m", tmp_path)


def test_a_module_that_is_ignored_does_not_count(edit, tmp_path: Path) -> None:
    without = fingerprint("p.cli", tmp_path, frozenset({"p.late"}))
    (tmp_path / "p/late.py").write_text("")
    assert fingerprint("p.cli", tmp_path, frozenset({"p.late"})) == without


def test_an_optional_import_is_followed(edit, tmp_path: Path) -> None:
    source = "try:\n    from p.late import finish\nexcept ImportError:\n    finish = None\n"
    (tmp_path / "p/optional.py").write_text(source)
    assert edit("p/late.py", "return 7", "return 8", of="p.optional")


@pytest.mark.usefixtures("edit")
def test_a_module_that_is_not_found_is_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"p\.absent: no such module"):
        fingerprint("p.absent", tmp_path)


def test_this_project_resolves_and_is_fast() -> None:
    started = time.process_time()  # whatever else the machine does
    first = fingerprint("amae.commands.predict")
    assert len(first) == 16 and int(first, 16) >= 0
    assert time.process_time() - started < 1
    assert fingerprint("amae.commands.train_stage1") != fingerprint("amae.commands.train_module")


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """A copy of this project's package, to edit."""
    shutil.copytree(Path(amae.__file__).parent, tmp_path / "amae", ignore=shutil.ignore_patterns("*.safetensors"))
    return tmp_path


def test_a_new_setting_reruns_nothing_whose_values_stay(copy: Path) -> None:
    commands = ["train_module", "train_stage1", "pretrain", "index", "compare"]
    before = [fingerprint(f"amae.commands.{name}", copy) for name in commands]
    for name in ("settings", "comparators/settings"):
        path = copy / "amae" / f"{name}.py"
        path.write_text(path.read_text() + "\n\nclass Further(Checked):\n    number: int = setting(1, '')\n")
    assert [fingerprint(f"amae.commands.{name}", copy) for name in commands] == before


def test_the_row_of_one_comparator_does_not_count_for_another() -> None:
    row, own = METHODS["ae"], code_of("knn")
    changed = dataclasses.replace(row, options={"uncertain": True})
    before = code_of("ae")
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(METHODS, "ae", changed)
        assert code_of("ae") != before
        assert code_of("knn") == own
