"""The page and the HTTP interface of `nordocr serve` (extra `serve`).

    POST /read ──▶ one waiting line ──▶ one Reader ──▶ a stored document ──▶ page images, files,
                                                                             corrections

Everything that a client sends is bounded: bytes, pages, waiting requests, stored documents. The
page loads nothing from other hosts.
"""

from nordocr.serving.app import create_app
from nordocr.serving.settings import ServeSettings

__all__ = ["ServeSettings", "create_app"]
