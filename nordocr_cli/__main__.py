"""`python -m nordocr_cli` is `nordocr`."""

from nordocr_cli.app import main

if __name__ == "__main__":
    main()
