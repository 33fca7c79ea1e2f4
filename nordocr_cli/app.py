"""The command line: one Typer app, one thin file per subcommand, one error boundary."""

import errno
import os
import signal
import sys
from typing import Annotated, NoReturn

import typer

from nordocr_cli import __version__
from nordocr_cli.console import Console, no_ansi_from_ci, utf8_streams
from nordocr_cli.errors import DataError, NordocrError, UsageError

no_ansi_from_ci()

_INTERRUPTED = 130
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO)

app = typer.Typer(
    name="nordocr",
    help=(
        "Prepare, train, evaluate, export, build, benchmark and compare Nordic text-line"
        " recognizers."
    ),
    no_args_is_help=True,
    add_completion=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    rich_markup_mode=None,
)


def _version(asked: bool) -> None:
    if asked:
        typer.echo(f"nordocr {__version__}")
        raise typer.Exit


@app.callback()
def _main(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Prepare, train, evaluate, export, build, benchmark and compare Nordic text-line recognizers.

    A first run:  nordocr prep LINES -o lines.lmdb -p svtrv2-1024  ·  nordocr train -p svtrv2-1024
    --train lines.lmdb
    """


def _register() -> None:
    from nordocr_cli.commands import (
        advise,
        bench,
        build_engine,
        charset,
        charset_move,
        clean,
        compare3way,
        consumer,
        contract,
        contract_calibrate,
        data,
        doctor,
        eval,
        export,
        import_,
        leaderboard,
        merge_lora,
        predict,
        prep,
        profiles,
        promote,
        runs,
        synth,
        train,
    )

    app.add_typer(profiles.app, name="profiles")
    app.add_typer(charset.app, name="charset")
    charset.app.command("move")(charset_move.move)
    contract.app.command("calibrate")(contract_calibrate.calibrate)
    app.add_typer(contract.app, name="contract")
    app.add_typer(consumer.app, name="consumer")
    app.command("doctor")(doctor.doctor)
    app.command("prep")(prep.prep)
    app.add_typer(data.app, name="data")
    app.command("export")(export.export)
    app.command("import")(import_.import_)
    app.command("merge-lora")(merge_lora.merge_lora)
    app.command("train")(train.train)
    app.command("promote")(promote.promote)
    app.command("runs")(runs.runs)
    app.command("clean")(clean.clean)
    app.command("synth")(synth.synth)
    app.command("eval")(eval.eval_)
    app.command("leaderboard")(leaderboard.leaderboard)
    app.command("advise")(advise.advise)
    app.command("build-engine")(build_engine.build_engine)
    app.command("compare3way")(compare3way.compare3way)
    app.command("bench")(bench.bench)
    app.command("predict")(predict.predict)


_register()


def main() -> None:
    """Entry point of `nordocr` and `nordocr-cli`. Ends the process with the exit code of design.md
    section 4.
    """
    utf8_streams()
    console = Console()
    # A cancelled CI job or a stopped container ends like Ctrl-C: temporaries are cleared away.
    # `train` has its own handler.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        # standalone_mode=False lets exceptions through; Typer's own ones know how to show
        # themselves.
        code = app(standalone_mode=False, prog_name="nordocr")
        sys.stdout.flush()
    except NordocrError as error:
        console.error(str(error))
        sys.exit(error.exit_code)
    except KeyboardInterrupt:
        code = _INTERRUPTED
    except BrokenPipeError:
        _end_without_reader()
    except SystemExit as end:
        if isinstance(end.__context__, BrokenPipeError):  # Typer and rich make exit code 1 of it
            _end_without_reader()
        raise
    except Exception as error:
        show, exit_code = getattr(error, "show", None), getattr(error, "exit_code", None)
        # Typer's vendored click exceptions: usage errors
        if callable(show) and isinstance(exit_code, int):
            show()
            sys.exit(exit_code or UsageError.exit_code)
        # files name themselves before they come here: this is stdout
        if isinstance(error, OSError) and error.errno in _FULL:
            console.error(
                f"cannot write {error.filename or 'the result to stdout'}: {error.strerror}; free"
                " some room and run this again"
            )
            _drop_stdout()
            sys.exit(DataError.exit_code)
        if type(error).__name__ != "Abort":  # what Typer makes of Ctrl-C at a prompt
            raise  # a bug: traceback, exit 1
        code = _INTERRUPTED
    if code == _INTERRUPTED:  # also what Typer returns after Ctrl-C in a command
        console.error("interrupted; nothing half-written is left")
    sys.exit(code if isinstance(code, int) else 0)


def _end_without_reader() -> NoReturn:
    """The reader of stdout is gone (`| head`): not an error."""
    _drop_stdout()
    sys.exit(0)


def _drop_stdout() -> None:
    """What is still buffered for stdout goes nowhere; Python would write it at the end and fail
    once more.
    """
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
