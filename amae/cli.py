"""The command line: one sub-command for each module of `amae.commands`, made from the signature of its function.

A sub-command is imported when it runs, alone, so `amae --help` is quick and torch is loaded only by what computes with
it. What a person can put right is reported in one line.
"""

import ast
import dataclasses
import difflib
import importlib
import inspect
import os
import pkgutil
import re
import select
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from textwrap import shorten
from typing import Annotated, Any

from cyclopts import App, CycloptsError, Parameter

import amae
from amae import commands
from amae.commands.parameters import of_setting
from amae.runtime.errors import InputError
from amae.runtime.lock import join

# Torch and the GPU's libraries say one of these when memory runs out.
MEMORY = "out of memory|can't allocate memory|ALLOC_FAILED|CUBLAS_STATUS_NOT_INITIALIZED"
MODULES = sorted(module.name for module in pkgutil.iter_modules(commands.__path__) if module.name != "parameters")
COMMANDS = {name.replace("_", "-"): name for name in MODULES}  # sub-command -> module


def main(arguments: list[str] | None = None) -> int:
    """Run one sub-command.

    Returns the exit status: 0, 2 after what a user can put right, 130 after an interruption, 141 where nobody reads its
    output any more, as in `amae trace FILE | head`.
    """
    words = sys.argv[1:] if arguments is None else arguments
    name = words[0] if words else "--help"
    if name in ("--help", "-h", "--version"):
        print(amae.__version__ if name == "--version" else overview())
        return 0
    if name not in COMMANDS:
        close = difflib.get_close_matches(name, COMMANDS, n=1)
        hint = f"did you mean {close[0]}?" if close else "amae --help lists the commands"
        print(f"amae: error: found {name!r}, expected a command; {hint}", file=sys.stderr)
        return 2
    try:
        join()
        make_app(name)(words[1:], exit_on_error=False, print_error=False, result_action="return_value")
        sys.stdout.flush()
    except CycloptsError as error:
        print(f"amae {name}: error: {' '.join(str(error).split())}", file=sys.stderr)
        return 2
    except (InputError, OSError, MemoryError, RuntimeError) as error:
        if isinstance(error, BrokenPipeError) and not _is_read():  # else the pipe of a worker
            return 141
        if not (reason := explain(error, words)):
            raise
        print(f"amae {name}: error: {reason}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print(f"amae {name}: interrupted", file=sys.stderr)
        return 130
    return 0


def _is_read() -> bool:
    """False where nobody reads the output any more; what is left of it is dropped then."""
    output = select.poll()
    output.register(sys.__stdout__.fileno(), 0)  # errors are reported always
    if output.poll(0):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.__stdout__.fileno())
        return False
    return True


def overview() -> str:
    """The help of the whole command: every sub-command with the first line of its own."""
    width = max(map(len, COMMANDS)) + 2
    lines = [f"  {name:{width}}{summary(module)}" for name, module in COMMANDS.items()]
    usage = "Usage: amae COMMAND [OPTIONS]; amae COMMAND --help lists the options."
    return "\n".join([usage, "", amae.__doc__, "", "Commands:", *lines])


def make_app(name: str) -> App:
    """The command line of one sub-command, or of those below it, where its module has some."""
    module = importlib.import_module(f"amae.commands.{COMMANDS[name]}")
    app = App(
        f"amae {name}",
        help_format="plaintext",
        version_flags=[],
        suppress_keyboard_interrupt=False,
        default_parameter=Parameter(negative_iterable=(), consume_multiple=(1, None)),
    )
    function = getattr(module, COMMANDS[name])
    if not (below := getattr(module, "SUBCOMMANDS", None)):
        app.default(typed(function))
        return app
    app.help = function.__doc__
    for each, command in below.items():
        app.command(typed(command), name=each)
    return app


def summary(module: str) -> str:
    """First line of a sub-command's help, read without importing it."""
    tree = ast.parse(Path(commands.__path__[0], f"{module}.py").read_text(encoding="utf-8"))
    function = next(node for node in tree.body if isinstance(node, ast.FunctionDef) and node.name == module)
    return ast.get_docstring(function).splitlines()[0]


def typed(function: Callable[..., None]) -> Callable[..., None]:
    """A command whose settings, dataclasses of `amae.settings`, have options with their meanings, types and limits.

    Settings made from the command line are checked as all others are; their errors name the option's section. A record
    is written of what the command wrote.
    """
    signature = inspect.signature(function)
    to_read = tuple(name for name, p in signature.parameters.items() if p.kind is p.POSITIONAL_ONLY)
    kinds = {name: kind for name, p in signature.parameters.items() if (kind := settings_of(p.annotation))}

    def run(*arguments: Any, **options: Any) -> None:
        from amae.runtime.records import recorded  # pandas, which the help does without

        for name, kind in kinds.items():
            if (given := options.get(name)) is None:
                continue
            try:
                options[name] = kind(**vars(given))
            except InputError as error:
                raise InputError(f"--{name.replace('_', '-')}.{error}") from None
        bound = signature.bind(*arguments, **options)
        bound.apply_defaults()
        _refuse_same(bound.arguments)
        with recorded(function.__name__, bound.arguments, to_read):
            function(*arguments, **options)

    parameters = [_as_options(p, kinds[name]) if name in kinds else p for name, p in signature.parameters.items()]
    run.__signature__ = signature.replace(parameters=parameters)
    run.__annotations__ = {p.name: p.annotation for p in parameters}
    run.__doc__, run.__name__ = function.__doc__, function.__name__
    return run


def _refuse_same(given: Mapping[str, Any]) -> None:
    """Raise InputError where two arguments name one file that is there: a result could replace what a person made."""
    names: dict[Path, str] = {}
    for name, value in given.items():
        for path in value if isinstance(value, list) else [value]:
            is_file = isinstance(path, Path) and path.is_file()
            if is_file and (other := names.setdefault(path.resolve(), name)) != name:
                both = f"{other} and {name}".replace("_", "-")
                raise InputError(f"{path}: given for {both}; expected two files")


def settings_of(annotation: Any) -> type | None:
    """The settings that a parameter takes, where its annotation is a dataclass, or one or None."""
    candidates = getattr(annotation, "__args__", (annotation,))
    return next((each for each in candidates if dataclasses.is_dataclass(each)), None)


def _as_options(parameter: inspect.Parameter, settings: type) -> inspect.Parameter:
    """The parameter with a dataclass of the same fields, annotated with what `setting` says of each."""
    fields = []
    for field in dataclasses.fields(settings):
        default = () if field.default is dataclasses.MISSING else (field.default,)
        fields.append((field.name, of_setting(field), *default))
    made = dataclasses.make_dataclass(settings.__name__, fields, frozen=True, kw_only=True)
    made.__doc__, made.__module__ = settings.__doc__, settings.__module__
    group = Parameter(group=settings.__doc__.splitlines()[0].rstrip("."))
    if parameter.default is None:
        return parameter.replace(annotation=Annotated[made | None, group])
    return parameter.replace(annotation=Annotated[made, group], default=made(**vars(parameter.default)))


def explain(error: Exception, words: list[str]) -> str | None:
    """One line on an error, with the next step; None for one that only a programmer can put right."""
    if isinstance(error, InputError):
        return str(error)
    if isinstance(error, OSError):  # a file that is missing or may not be read or written, a full disk
        return f"{error.filename}: {error.strerror}" if error.filename else str(error)
    if type(error).__name__ == "BrokenProcessPool":
        return "a worker process was ended from outside, or ran out of memory; run the same command again"
    if isinstance(error, MemoryError) or re.search(MEMORY, str(error)):
        found = shorten(str(error), 120)
        return f"out of memory{f' ({found})' if found else ''}; {_what_to_lower(words)}"
    return None


def _what_to_lower(words: list[str]) -> str:
    """Advice on what needs less memory."""
    sizes = [place for place, word in enumerate(words[:-1]) if word.endswith(".batch-size")]
    if len(sizes) == 1:
        option, now = words[sizes[0] : sizes[0] + 2]
        key = option.removeprefix("--").replace("-", "_")
        return f"lower the key {key} ({option}), {now} now, and run it again"
    return "end what else uses this memory, or go on without the GPU (--device cpu, --resources gpu=0)"
