"""How help is laid out: commands in groups with full summaries, and readable value names."""

from collections.abc import Iterator
from typing import Any

import typer
import typer.core
import typer.main
from typer.completion import completion_init

# The order in which the groups of commands appear.
GROUPS = ("Read", "Data", "Train", "Deploy", "Compare", "Tools")
HELP_COLUMNS = 100

# What stands for the value of an option that names none itself: type name → placeholder.
_PLACEHOLDERS = {"int": "N", "float": "X", "str": "TEXT", "Path": "PATH"}


class HelpGroup(typer.core.TyperGroup):
    """A group of commands whose help shows the commands by topic, each with its full summary."""

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        """Write one section per topic; commands without a topic stand under "Commands"."""
        sections: dict[str, list[tuple[str, str]]] = {name: [] for name in GROUPS}
        for name, command in self.commands.items():
            if command.hidden:
                continue
            topic = getattr(command, "rich_help_panel", None) or "Commands"
            sections.setdefault(topic, []).append((name, summary(command)))

        for topic, rows in sections.items():
            if not rows:
                continue
            with formatter.section(topic):
                formatter.write_dl(rows)


def summary(command: Any) -> str:
    """Return the first sentence of a command's help, never shortened."""
    return str(command.get_short_help_str(limit=10_000))


def build_command_tree(app: typer.Typer) -> Any:
    """Return the command tree of an app, with readable placeholders in every command's help."""
    completion_init()  # registers the shells, which Typer does only for its own options
    root = typer.main.get_command(app)
    for command in _walk(root):
        for parameter in command.params:
            _name_value(parameter)
    return root


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
