"""Read Nordic business documents from Python.

    import nordocr

    document = nordocr.read("scan.pdf")
    print(document.text)
    for line in document.pages[0].lines:
        print(line.text, line.confidence, line.box)
    document.save("scan.alto.xml")

    recognizer = nordocr.Recognizer("nordocr-default")
    for reading in recognizer.read(["line-1.png", "line-2.png"]):
        print(reading.text, reading.confidence)

The same code reads for the command line: `nordocr predict` and this package give the same results.
Importing this package takes milliseconds; NumPy, OpenCV and ONNX Runtime are imported with the
first reading.

Errors are those of `nordocr_cli.errors`: `UsageError` for a wrong name or option, `DataError` for
what cannot be read, `MissingBackendError` for a library that is not installed; all of them are
`NordocrError`.
"""

from nordocr.documents import Document, Line, Page, Word
from nordocr.reading import FORMATS, Reader, Recognizer, read
from nordocr_cli import __version__
from nordocr_cli.errors import DataError, MissingBackendError, NordocrError, UsageError
from nordocr_cli.records import Box, Recognition

__all__ = [
    "FORMATS",
    "Box",
    "DataError",
    "Document",
    "Line",
    "MissingBackendError",
    "NordocrError",
    "Page",
    "Reader",
    "Recognition",
    "Recognizer",
    "UsageError",
    "Word",
    "__version__",
    "read",
]
