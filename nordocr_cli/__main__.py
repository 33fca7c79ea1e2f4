"""The start of `nordocr` and of `python -m nordocr_cli`. It imports the rest inside a handler, so
that Ctrl-C during the import ends without a traceback.
"""

import sys


def main() -> None:
    """Run the command line and end the process with an exit code of `nordocr_cli.errors`."""
    try:
        from nordocr_cli.app import main as run

        run()
    except KeyboardInterrupt:  # before or after the time in which app.main handles it
        sys.exit(130)


if __name__ == "__main__":
    main()
