"""The tree of commands: a command is imported when it is used, and its help names the values of
options readably.
"""

from collections import UserDict
from collections.abc import Iterator
from importlib import import_module
from typing import Any

import typer
import typer.core
import typer.main
from typer.completion import completion_init

from nordocr_cli.command_table import COMMANDS, CommandEntry

HELP_COLUMNS = 100

# What stands for the value of an option that names none itself: type name → placeholder.
_PLACEHOLDERS = {"int": "N", "float": "X", "str": "TEXT", "Path": "PATH"}


class HelpGroup(typer.core.TyperGroup):
    """A group of commands whose help shows each command with its full summary."""

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        """Write the commands in their order."""
        with formatter.section("Commands"):
            formatter.write_dl(
                [(name, summary(command)) for name, command in self.commands.items()]
            )


class RootGroup(HelpGroup):
    """The group of all commands of COMMANDS. Its help shows them by topic and imports none."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        self.commands = LazyCommands()

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        """Write one section per topic."""
        for topic, entries in COMMANDS.items():
            with formatter.section(topic):
                formatter.write_dl([(entry.name, entry.summary) for entry in entries])


class LazyCommands(UserDict[str, Any]):
    """The commands of COMMANDS by name. Looking one up imports its module."""

    def __init__(self) -> None:
        super().__init__()
        self._topics: dict[str, str] = {}
        for topic, entries in COMMANDS.items():
            for entry in entries:
                self.data[entry.name] = entry
                self._topics[entry.name] = topic

    def __getitem__(self, name: str) -> Any:
        """Return a command. Raises KeyError for an unknown name."""
        found = self.data[name]
        if isinstance(found, CommandEntry):
            found = _load(found, self._topics[name])
            self.data[name] = found
        return found


def _load(entry: CommandEntry, topic: str) -> Any:
    """Import a command, or a group of commands with everything below it."""
    module, name = entry.place.split(":")
    target = getattr(import_module(f"nordocr_cli.commands.{module}"), name)

    parent = typer.Typer(rich_markup_mode=None, add_completion=False)
    parent.callback()(_no_options)
    if isinstance(target, typer.Typer):
        parent.add_typer(
            target,
            name=entry.name,
            cls=HelpGroup,
            short_help=entry.summary,
            rich_help_panel=topic,
        )
    else:
        command = parent.command(
            entry.name, short_help=entry.summary, rich_help_panel=topic
        )
        command(target)

    group: Any = typer.main.get_command(parent)
    loaded = group.commands[entry.name]
    for each in _walk(loaded):
        for parameter in each.params:
            _name_value(parameter)
    return loaded


def _no_options() -> None:
    """A Typer app with a callback is a group, also when it holds a single command."""


def summary(command: Any) -> str:
    """Return the first sentence of a command's help, never shortened."""
    return str(command.get_short_help_str(limit=10_000))


def build_command_tree(app: typer.Typer) -> Any:
    """Return the root of the command tree, whose commands load when they are looked up."""
    completion_init()  # registers the shells, which Typer does only for its own options
    return typer.main.get_command(app)


def _walk(command: Any) -> Iterator[Any]:
    yield command
    for child in getattr(command, "commands", {}).values():
        yield from _walk(child)


def _name_value(parameter: Any) -> None:
    """Give an option without a metavar a short one: N for a number, choices as a|b|c.

    An argument's name is enough; Typer's type in angle brackets next to it is left away.
    """
    if parameter.param_type_name == "argument":
        parameter.display_type_rich = lambda ctx: None
        return
    if parameter.metavar is not None or parameter.is_flag or parameter.count:
        return

    description = parameter.type_descriptor
    if description.is_choice:
        parameter.metavar = "|".join(_choice_text(choice) for choice in description.choices)
        return
    type_name = parameter.bare_type().removeprefix("list[").removesuffix("]")
    parameter.metavar = _PLACEHOLDERS.get(type_name.rsplit(".")[-1], "VALUE")


def _choice_text(choice: Any) -> str:
    return str(getattr(choice, "value", choice))
