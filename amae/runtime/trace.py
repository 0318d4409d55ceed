"""A file of results traced back: which command, settings, seed, code, versions and inputs made it.

Sources are the records of commands (`amae.runtime.records`), `run.json` beside a file (`amae.runtime.provenance`) and
the description in the header of a safetensors file. Inputs are compared with the SHA-256 that was recorded when they
were read, and an output with that when it was written.
"""

import json
import shlex
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from amae.runtime.errors import InputError
from amae.runtime.files import read_csv, read_record, sha256
from amae.runtime.records import LIST, read_list, record_of, recorded_digest
from amae.runtime.tensors import is_safetensors, read_arrays

IMPORTS = "import-weights"  # its inputs may be files of another machine
LEVELS = 4  # folders above a file in which its data set, with a manifest.csv, may be
SUFFIXES = (".csv", ".json", ".npy", ".npz", ".safetensors", LIST)
OF_MODEL = ("dataset", "conversion", "square", "reconstruction", "detector")  # settings in the header of a model


@dataclass(frozen=True)
class Input:
    """A file that another was made from: its role, its SHA-256 then, and its path then, "" where not recorded.

    `imported`: an origin of weights that were brought in as a file, which need not be on this machine.
    """

    role: str
    sha256: str
    path: str = ""
    imported: bool = False


@dataclass
class Trace:
    """Traces files, each once. `faults`: inputs that have changed or are not found, in words."""

    start: Path
    faults: list[str] = field(default_factory=list)
    seen: set[str] = field(default_factory=set)

    def lines(self) -> Iterator[str]:
        """The trace of `start`, indented by generation. Raises InputError where nothing describes that file."""
        if not self.start.is_file():
            found = "found a folder, expected a file in it" if self.start.is_dir() else "no such file"
            raise InputError(f"{self.start}: {found}")
        made, inputs = describe(self.start)
        if not made:
            raise InputError(
                f"{self.start}: nothing describes it: found no record beside it and no header, expected one; ask for a "
                "file that an amae command wrote"
            )
        yield f"{self.start}: SHA-256 {sha256(self.start)}{self._changed(self.start)}"
        yield from self._below(made, inputs, "  ")

    def _changed(self, path: Path) -> str:
        """A fault, in words, where a file is another than its command wrote; else ""."""
        found = record_of(path)
        if not found or (digest := recorded_digest(found[1], found[0], path)) == sha256(path):
            return ""
        self.faults.append(str(path))
        return f": CHANGED, {digest} was written"

    def _below(self, made: list[str], inputs: list[Input], indent: str) -> Iterator[str]:
        yield from (f"{indent}{line}" for line in made)
        for each in inputs:
            path, state = self._find(each)
            yield f"{indent}from {each.role}: {path or each.path or 'a file'}, SHA-256 {each.sha256}: {state}"
            if path is None or each.sha256 in self.seen:
                continue
            self.seen.add(each.sha256)
            if path.suffix == LIST:
                yield f"{indent}  {self._compare(path)}"
                continue
            earlier, inputs = describe(path)
            yield from self._below(earlier or ["no record of how it was made"], inputs, f"{indent}  ")

    def _find(self, each: Input) -> tuple[Path | None, str]:
        """The file that an input is now, and how it compares; None where it is not as it was."""
        if each.path and Path(each.path).is_file() and sha256(each.path) == each.sha256:
            return Path(each.path), "as recorded"
        if found := self._by_content.get(each.sha256):
            return found, "as recorded"
        changed = each.path and Path(each.path).is_file()
        if each.imported and not changed:
            return None, "not in this folder; the weights were brought in as a file"
        state = f"CHANGED, now {sha256(each.path)}" if changed else "NOT FOUND"
        self.faults.append(f"{each.role} {each.path}".strip())
        return None, state

    def _compare(self, path: Path) -> str:
        """How the radiographs of a list compare."""
        recorded = read_list(path)
        gone = [file for file in recorded if not file.is_file()]
        changed = [file for file, digest in recorded.items() if file.is_file() and sha256(file) != digest]
        self.faults += [f"radiograph {file}" for file in changed[:1] + gone[:1]]
        states = [f"{len(recorded) - len(gone) - len(changed)} of {len(recorded)} radiographs as recorded"]
        for what, files in (("CHANGED", changed), ("NOT FOUND", gone)):
            states += [f"{len(files)} {what}, the first {files[0]}"] if files else []
        return "; ".join(states)

    @cached_property
    def _by_content(self) -> dict[str, Path]:
        """Files of the data set that the file belongs to, by SHA-256."""
        above = list(self.start.absolute().parents)[:LEVELS]
        root = next((folder for folder in above if (folder / "manifest.csv").is_file()), above[0])
        files = root.rglob("*") if (root / "manifest.csv").is_file() else root.glob("*")
        return {sha256(path): path for path in sorted(files) if path.suffix in SUFFIXES and path.is_file()}


def describe(path: Path) -> tuple[list[str], list[Input]]:
    """How a file was made, in lines, and the files that it was made from; none where nothing describes it.

    Raises InputError for a record or a safetensors file that is damaged.
    """
    made, inputs = [], []
    header = read_arrays(path)[0] if is_safetensors(path) else {}
    record = path if path.name == "run.json" else path.with_name("run.json")
    if found := record_of(path):
        made, inputs = _of_record(found[1], found[0])
        if IMPORTS in found[1]["command"][:2]:
            inputs = [replace(each, imported=True) for each in inputs]
    elif record.is_file() and path.suffix != ".md" and (path == record or "outputs" not in read_record(record)):
        made, inputs = _of_record(read_record(record), record)  # of an earlier version: of all beside it
    elif header:
        made, inputs = _of_header(header)
    elif path.name in ("manifest.csv", "candidates.csv"):
        made = _images_of(path)
    return made, inputs


def _of_record(record: dict[str, Any], path: Path) -> tuple[list[str], list[Input]]:
    """Lines and inputs of a run.json."""
    try:
        command = shlex.join(record["command"]) if "command" in record else "not recorded by this version"
        code = f"commit {record['code']['commit']}" if record["code"] else "of no git commit"
        edited = (
            f", with edits that are not committed{_edited(record['code'])}"
            if (record["code"] or {}).get("dirty")
            else ""
        )
        made = [
            f"made {record['started']} ({path}) by: {command}",
            f"settings: {json.dumps(record['settings'])}",
            f"seed {record['seed']}; code: {code}{edited}",
            f"versions: {', '.join(f'{name} {version}' for name, version in record['versions'].items())}",
            f"device: {', '.join(str(value) for value in record['device'].values())}",
        ]
        return made, [Input(role, each["sha256"], each["path"]) for role, each in record["inputs"].items()]
    except (KeyError, TypeError, AttributeError) as error:
        raise InputError(f"{path}: not a record of a run ({type(error).__name__}: {error})") from None


def _edited(code: dict[str, Any]) -> str:
    """Names of the files that were edited, "" where they were not recorded."""
    if not (names := code.get("edited")):
        return ""
    more = code["edited_count"] - len(names)
    return f": {', '.join(names)}{f' and {more} more' if more > 0 else ''}"


def _of_header(about: dict[str, Any]) -> tuple[list[str], list[Input]]:
    """Lines and inputs of the description in a safetensors file."""
    text = about.get("description", {})
    inputs = [
        Input(key.removesuffix("_sha256"), value, text.get(key.removesuffix("_sha256"), ""), imported=True)
        for key, value in text.items()
        if key.endswith("_sha256")
    ]
    made = [f"{key}: {value}" for key, value in text.items() if not key.endswith("_sha256")]
    if "kind" in about:
        made.insert(0, f"content: {about['kind']}")
    if about.get("kind") == "amae model":
        settings = {key: about[key] for key in OF_MODEL if key in about}
        made += [
            f"made by amae export, seed {about.get('seed')}, code: commit {about.get('commit')}",
            f"settings: {json.dumps(settings)}",
            f"versions: {', '.join(f'{name} {version}' for name, version in about.get('versions', {}).items())}",
        ]
        inputs += [Input(role, found) for role, found in about.get("files", {}).items()]
    if again := about.get("recalibration"):
        made.append(f"recalibrated on {again['images']} normal images of a site, {again['left_out']} left out")
        inputs.insert(0, Input("the model before", again["model"]))
    return made or [f"content: {json.dumps(about)}"], inputs


def _images_of(manifest: Path) -> list[str]:
    """The files of radiographs that a manifest names."""
    paths = read_csv(manifest, ["path"])["path"]
    if paths.empty:
        return ["names no radiograph"]
    there = sum(Path(path).is_file() for path in paths)
    return [
        f"names {len(paths)} files of radiographs, of which {there} are there, the first {paths.iloc[0]}; their bytes "
        "were not recorded, those of the packed images were"
    ]
