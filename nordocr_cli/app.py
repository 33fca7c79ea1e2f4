"""The command line: one Typer app, one short file per subcommand, one error boundary."""

import errno
import os
import signal
import sys
from typing import Annotated, NoReturn

import typer

from nordocr_cli import __version__, counterparts
from nordocr_cli.console import (
    Console,
    defer_json,
    flush_json,
    no_ansi_from_ci,
    stop_deferring_json,
    utf8_streams,
)
from nordocr_cli.errors import DataError, MissingBackendError, NordocrError, UsageError
from nordocr_cli.extras import from_import_error
from nordocr_cli.help_text import HELP_COLUMNS, RootGroup, build_command_tree

no_ansi_from_ci()

_INTERRUPTED = 130
# Errors of a full or failing disk. Files are named where they are written, so an error of this kind
# that reaches the boundary is about stdout.
# Paths that this machine does not take, wherever they are used first.
_CANNOT_USE = (
    errno.ENAMETOOLONG,
    errno.ELOOP,
    errno.EACCES,
    errno.EPERM,
    errno.EROFS,
    errno.ENOTDIR,
    errno.EISDIR,
    errno.ENXIO,
)
_CANNOT_WRITE = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO)

app = typer.Typer(
    name="nordocr",
    cls=RootGroup,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={
        "help_option_names": ["-h", "--help"],
        "max_content_width": HELP_COLUMNS,
    },
    rich_markup_mode=None,
)


def _print_version(requested: bool) -> None:
    if requested:
        typer.echo(f"nordocr {__version__}")
        raise typer.Exit


@app.callback()
def _main(
    version: Annotated[
        bool,
        typer.Option(
            "--version", callback=_print_version, is_eager=True, help="Print the version."
        ),
    ] = False,
    allow_engine_code: Annotated[
        bool,
        typer.Option(
            "--allow-engine-code",
            help="Let version-compatible engines run the host code that they carry.",
        ),
    ] = False,
) -> None:
    """Read Nordic business documents, and train, evaluate and deploy the recognizers that read
    them.

    \b
    Read a scan:          nordocr read scan.pdf
    Learn your own lines: nordocr finetune LINES -o better
    What is missing here: nordocr doctor
    """
    if allow_engine_code:
        from nordocr_cli.runtime.backends.tensorrt.engine_file import ENGINE_CODE_ALLOWED

        ENGINE_CODE_ALLOWED.set(True)


def main() -> None:
    """Entry point of `nordocr` and `nordocr-cli`. Ends the process with one of the exit codes that
    `nordocr_cli.errors` lists.
    """
    utf8_streams()
    # A cancelled CI job or a stopped container ends like Ctrl-C: temporary files are removed.
    # `train` installs its own handler.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    # The values after `--` are arguments, also if one reads "--json".
    if "--" in sys.argv:
        options = sys.argv[1 : sys.argv.index("--")]
    else:
        options = sys.argv[1:]
    console = Console(as_json="--json" in options)
    console.show_warnings()
    defer_json()
    try:
        _run(console)
    finally:
        stop_deferring_json()


def _run(console: Console) -> NoReturn:
    """Run the command, show its error, and end the process."""
    try:
        # standalone_mode=False lets exceptions through to this boundary.
        code = build_command_tree(app)(standalone_mode=False, prog_name="nordocr")
        flush_json()
        sys.stdout.flush()
    except BrokenPipeError:
        _end_without_reader()
    except SystemExit as end:
        # Typer and rich turn a reader that went away into exit code 1.
        if isinstance(end.__context__, BrokenPipeError):
            _end_without_reader()
        raise
    except KeyboardInterrupt:
        code = _INTERRUPTED
    except Exception as error:
        code = _report(console, error)
        if code is None:
            raise

    # Typer also returns this number after Ctrl-C within a command.
    if code == _INTERRUPTED:
        _fail(
            console,
            "interrupted",
            "interrupted; a file has its final name only when it is complete",
            _INTERRUPTED,
        )
    sys.exit(code if isinstance(code, int) else 0)


def _report(console: Console, error: Exception) -> int | None:
    """Show an expected error and end the process, or return its exit code.

    None stands for an unexpected error, a bug, which ends in its traceback.
    """
    if isinstance(error, ImportError):
        error = from_import_error(error) or error
    if isinstance(error, NordocrError):
        _fail(console, _kind(error), str(error), error.exit_code, _hint(error))

    # The usage errors of Typer's own parser, which carry a `show` method.
    show = getattr(error, "show", None)
    exit_code = getattr(error, "exit_code", None)
    if callable(show) and isinstance(exit_code, int):
        code = exit_code or UsageError.exit_code
        if not console.as_json:
            show()
            counterpart = _counterpart_option(error)
            if counterpart:
                console.error(counterpart)
            sys.exit(code)
        message = getattr(error, "message", None) or str(error)
        _fail(console, "usage", message, code, _usage_hint(error))

    if isinstance(error, OSError) and error.errno in _CANNOT_WRITE:
        target = error.filename or "the result to stdout"
        console.error(
            f"cannot write {target}: {error.strerror}; free some disk space and run this again"
        )
        _drop_stdout()
        sys.exit(DataError.exit_code)

    if isinstance(error, OSError) and error.errno in _CANNOT_USE:
        message = f"cannot use {error.filename}: {error.strerror}; give another path"
        _fail(console, "data", message, DataError.exit_code)
    if isinstance(error, MemoryError):
        message = "not enough memory for this input; give a smaller one, or less at a time"
        _fail(console, "data", message, DataError.exit_code)

    # What Typer makes of Ctrl-C at a prompt.
    if type(error).__name__ == "Abort":
        return _INTERRUPTED

    if console.as_json:
        flush_json(
            {"code": "bug", "message": f"{type(error).__name__}: {error}", "hint": _BUG}
        )
    return None


_BUG = "this is a bug in nordocr: please report the traceback on stderr"


def _fail(console: Console, kind: str, message: str, code: int, hint: str = "") -> NoReturn:
    """Show an error on stderr, with --json also on stdout, and end the process."""
    console.error(message)
    if console.as_json:
        flush_json({"code": kind, "message": message, "hint": hint})
        sys.stdout.flush()
    sys.exit(code)


_KINDS = {1: "bug", 2: "usage", 3: "data", 4: "gate", 5: "backend", 130: "interrupted"}


def _kind(error: NordocrError) -> str:
    return _KINDS.get(error.exit_code, "error")


def _hint(error: NordocrError) -> str:
    """Return what to do next: the error's own hint, else what helps against its kind."""
    own = getattr(error, "hint", "")
    if own:
        return str(own)
    if isinstance(error, MissingBackendError):
        return "nordocr doctor lists what is missing on this machine"
    if isinstance(error, UsageError):
        return "add -h to the command to see its options"
    return ""


def _counterpart_option(error: Exception) -> str:
    """What an option of another program is called here; "" for any other error."""
    name = str(getattr(error, "option_name", ""))
    if name not in counterparts.OPTIONS:
        return ""
    return f"{name} is another program's option; here it is {counterparts.OPTIONS[name]}"


def _usage_hint(error: Exception) -> str:
    counterpart = _counterpart_option(error)
    if counterpart:
        return counterpart
    context = getattr(error, "ctx", None)
    path = context.command_path if context is not None else "nordocr"
    return f"{path} -h lists the options"


def _end_without_reader() -> NoReturn:
    """End quietly when the reader of stdout is gone (`| head`): this is not an error."""
    _drop_stdout()
    sys.exit(0)


def _drop_stdout() -> None:
    """Send what is still buffered for stdout nowhere; Python would otherwise try to write it at
    exit and fail again.
    """
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
