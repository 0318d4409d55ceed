"""A copy of the project in a folder of its own, and Snakemake in it as a person runs it."""

import inspect
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PARTS = ["amae", "workflow", "config", "tests/tiny.yaml", "environment.yml", "pyproject.toml"]
UNUSED = shutil.ignore_patterns("__pycache__")


@dataclass(frozen=True)
class Project:
    """A copy of the project, and what its last complete run printed."""

    folder: Path
    output: str = ""

    @property
    def results(self) -> Path:
        """Everything computed for the tiny data set."""
        return self.folder / "out/tiny"

    def copy(self, folder: Path) -> "Project":
        """The project with its results and Snakemake's memory of them, times of files included."""
        shutil.copytree(self.folder, folder, symlinks=True, ignore=shutil.ignore_patterns("__pycache__", "log"))
        return Project(folder, self.output)

    def command(self, *words: str, config: tuple[str, ...] = ()) -> list[str]:
        """Snakemake on one core without a GPU, with the tiny configuration and these words."""
        settings = ["--configfile", "tests/tiny.yaml", "--config", "results=out", *config]
        return [*snakemake(), *words, "--cores", "1", "--resources", "gpu=0", "--nocolor", *settings]

    def run(self, *words: str, config: tuple[str, ...] = ()) -> tuple[int, str]:
        """Exit status and output of Snakemake."""
        return run(self.command(*words, config=config), self.folder)

    def planned(self, *config: str) -> dict[str, int]:
        """How many jobs of each rule Snakemake would run."""
        status, output = self.run("--dry-run", "--quiet", "rules", config=config)
        assert status == 0, output
        table = output.partition("Job stats:")[2].splitlines()
        jobs = {match[1]: int(match[2]) for line in table if (match := re.fullmatch(r"(\w+) +(\d+)", line))}
        assert jobs or "Nothing to be done" in output, output
        return {rule: count for rule, count in jobs.items() if rule not in ("all", "total")}

    def edit(self, file: str, old: str, new: str) -> None:
        """Replace text that a file of the project contains once."""
        path = self.folder / file
        text = path.read_text()
        assert text.count(old) == 1, f"{file} contains {old!r} {text.count(old)} times"
        path.write_text(text.replace(old, new))

    def commands(self, *names: str) -> list[list[str]]:
        """The `amae` command lines of the complete run, as words without the program, for these sub-commands."""
        found = [
            shlex.split(line.split(" 2>&1")[0])
            for line in re.findall(r"^(?:Shell command:| +) *amae (.+)$", self.output, re.M)
        ]
        return [words for words in found if words[0] in names] if names else found


def copy_sources(folder: Path) -> Project:
    """The project without results."""
    for part in PARTS:
        (folder / part).parent.mkdir(parents=True, exist_ok=True)
        copy = shutil.copytree if (ROOT / part).is_dir() else shutil.copy2
        copy(ROOT / part, folder / part, **({"ignore": UNUSED} if copy is shutil.copytree else {}))
    return Project(folder)


def snakemake() -> list[str]:
    """Snakemake of the Python that runs the tests."""
    return [sys.executable, "-m", "snakemake"]


def environment(folder: Path) -> dict[str, str]:
    """The environment in which `amae`, by name and by import, is the code in `folder`; one thread, no network."""
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    code = os.pathsep.join([str(folder), str(ROOT / "tests/offline")])
    return {**os.environ, "PATH": path, "PYTHONPATH": code, "OMP_NUM_THREADS": "1"}


def run(command: list[str], folder: Path) -> tuple[int, str]:
    """Exit status and output of a command, stdout and stderr together."""
    done = subprocess.run(
        command,
        cwd=folder,
        env=environment(folder),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=600,
        check=False,
    )
    return done.returncode, done.stdout


def start(command: list[str], folder: Path, log: Path, code: Path | None = None) -> subprocess.Popen:
    """A command in a process group of its own, which `kill` ends with all that it has started.

    `code` is the folder of the package; by default `folder`.
    """
    with log.open("w") as file:
        return subprocess.Popen(
            command, cwd=folder, env=environment(code or folder), stdout=file, stderr=file, start_new_session=True
        )


def kill(process: subprocess.Popen) -> None:
    """SIGKILL to the whole process group."""
    os.killpg(process.pid, signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL


def workers(process: subprocess.Popen) -> list[int]:
    """Processes of `amae` commands in a run's process group."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            if os.getpgid(int(folder.name)) == process.pid and b"bin/amae\0" in (folder / "cmdline").read_bytes():
                found.append(int(folder.name))
        except OSError:  # it has ended meanwhile
            continue
    return found


def call(command: Callable[..., None], options: object) -> None:
    """Call a command with those of the options that it takes."""
    names = inspect.signature(command).parameters
    command(**{name: value for name, value in vars(options).items() if name in names})
