"""The sub-commands of `python -m core`, and how a command line is read that has some."""

from __future__ import annotations

import argparse
import keyword
from collections.abc import Mapping, Sequence
from importlib import import_module

from core.version import software


def parsed(
    parser: argparse.ArgumentParser, package: str, commands: Mapping[str, str], argv: Sequence[str]
) -> argparse.Namespace:
    """The arguments, with the function `run` of the file of `package` that is called like the sub-command.

    commands: name -> its help. Of their files only that of the asked one is loaded: its `add_options`, if it has one,
    says what follows the name.
    """
    parser.add_argument("--version", action="version", version=software())
    subparsers = parser.add_subparsers(required=True, metavar="COMMAND")
    for name, what in commands.items():
        one = subparsers.add_parser(name, help=what)
        if [name] == list(argv[:1]):
            file = import_module(f"{package}.{file_of(name)}")
            one.set_defaults(run=file.run)
            if hasattr(file, "add_options"):
                file.add_options(one)
    return parser.parse_args(argv)


def file_of(name: str) -> str:
    """What the file of a sub-command is called, without its ending."""
    return name.replace("-", "_") + "_" * keyword.iskeyword(name)
