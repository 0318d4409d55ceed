"""The command line: one sub-command for each rule of the workflow, files in, files out.

The code of a sub-command (`amae.subcommands`) is imported only when it runs, so `amae --help` is quick and torch is
loaded only by what computes with it.
"""

import argparse
import importlib
import sys
from pathlib import Path

import amae
from amae.failures import explain
from amae.options import ARGUMENTS, FILES, OPTIONS
from amae.runtime.errors import InputError
from amae.runtime.lock import join
from amae.settings import add_options
from amae.subcommands import COMMANDS


def make_parser() -> argparse.ArgumentParser:
    """The parser of the whole command line."""
    parser = argparse.ArgumentParser(prog="amae", description=amae.__doc__)
    parser.add_argument("--version", action="version", version=amae.__version__)
    subparsers = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name, command in COMMANDS.items():
        sub = subparsers.add_parser(
            name, help=command.meaning, description=command.meaning[0].upper() + command.meaning[1:].rstrip(".") + "."
        )
        group = sub.add_argument_group("files")
        for file, meaning in command.files.items():
            group.add_argument(f"--{file}", type=Path, required=True, metavar="FILE", help=meaning or FILES[file])
        for argument in command.arguments:
            sub.add_argument(argument, **ARGUMENTS[argument])
        for option in command.options:
            sub.add_argument(f"--{option}", **OPTIONS[option])
        for settings in command.settings:
            add_options(sub, settings)
    return parser


def main(arguments: list[str] | None = None) -> int:
    """Run one sub-command. Returns the exit status: 0, 2 after what a user can put right, 130 after an interruption.

    Both are told in one line.
    """
    options = make_parser().parse_args(arguments)
    module, function = COMMANDS[options.command].function.split(":")
    try:
        join()
        getattr(importlib.import_module(module), function)(options)
    except (InputError, OSError, MemoryError, RuntimeError) as error:
        if not (reason := explain(error, options)):
            raise
        print(f"amae {options.command}: error: {reason}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print(f"amae {options.command}: interrupted", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
