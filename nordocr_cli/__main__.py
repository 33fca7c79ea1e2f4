"""`nordocr`, and `python -m nordocr_cli`: what starts first, so that Ctrl-C while the rest loads
ends without a traceback.
"""

import sys


def main() -> None:
    """Run the command line. Ends the process with the exit code of design.md section 4."""
    try:
        from nordocr_cli.app import main as run

        run()
    except KeyboardInterrupt:  # before, or after, the command line has a handler of its own
        sys.exit(130)


if __name__ == "__main__":
    main()
