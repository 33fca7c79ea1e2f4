"""`nordocr completions show|install`: completion of commands, options and values in the shell."""

import os
from pathlib import Path
from typing import Annotated, Literal

import typer
from typer.completion import get_completion_script

from nordocr_cli.console import Console

app = typer.Typer(help="Show or install completion for your shell.", no_args_is_help=True)

Shell = Literal["bash", "zsh", "fish", "powershell"]

# compinit reads only the first line of the file. When compinit calls the file (rather than the user
# sourcing it), the first TAB has to complete too.
_ZSH_FIRST_TAB = 'if [ "$funcstack[1]" = "_nordocr" ]; then _nordocr_completion "$@"; fi\n'


@app.command()
def show(
    shell: Annotated[Shell, typer.Argument(metavar="bash|zsh|fish|powershell")],
) -> None:
    """Print the completion script of a shell.

    Example: nordocr completions show bash > nordocr.bash
    """
    Console().line(completion_script(shell).rstrip("\n"))


@app.command()
def install(
    shell: Annotated[
        Shell | None,
        typer.Argument(
            metavar="[bash|zsh|fish]", help="The shell. Default: the one that SHELL names."
        ),
    ] = None,
) -> None:
    """Write the completion script where the shell finds it, in your home folder.

    Nothing else is changed. For zsh and PowerShell one line in the shell's own configuration is
    needed; it is printed, not written.

    Example: nordocr completions install bash
    """
    from nordocr_cli.atomic import write_text
    from nordocr_cli.errors import UsageError

    chosen = shell or _shell_of_user()
    if chosen == "powershell":
        raise UsageError(
            "PowerShell has no folder for completions: run `nordocr completions show powershell"
            " >> $PROFILE` in PowerShell"
        )
    path = completion_path(chosen)
    write_text(path, completion_script(chosen))

    console = Console()
    console.line(str(path))
    if chosen == "zsh":
        console.note(
            f"add to ~/.zshrc, before compinit: fpath=({path.parent} $fpath); autoload -U compinit;"
            " compinit"
        )
    console.next("open a new shell, then type: nordocr <TAB>")


def completion_script(shell: str) -> str:
    """Return the completion script of a shell.

    For zsh the file works both from a folder of `fpath` and when it is sourced.
    """
    script = get_completion_script(
        prog_name="nordocr", complete_var="_NORDOCR_COMPLETE", shell=shell
    )
    script = script.strip() + "\n"
    if shell == "zsh":
        return script + _ZSH_FIRST_TAB
    return script


def completion_path(shell: str) -> Path:
    """Return where the shell looks for a user's completion scripts."""
    data_home = Path(os.environ.get("XDG_DATA_HOME") or "~/.local/share").expanduser()
    config_home = Path(os.environ.get("XDG_CONFIG_HOME") or "~/.config").expanduser()
    paths = {
        "bash": data_home / "bash-completion" / "completions" / "nordocr",
        "zsh": data_home / "zsh" / "site-functions" / "_nordocr",
        "fish": config_home / "fish" / "completions" / "nordocr.fish",
    }
    return paths[shell]


def _shell_of_user() -> Shell:
    from nordocr_cli.errors import UsageError

    name = Path(os.environ.get("SHELL", "")).name
    if name == "bash":
        return "bash"
    if name == "zsh":
        return "zsh"
    if name == "fish":
        return "fish"
    raise UsageError(
        "cannot tell your shell from SHELL: name it, e.g. completions install bash"
    )
