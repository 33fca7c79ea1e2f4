"""Text for XML: without the characters that it cannot hold."""

import re
from xml.sax.saxutils import escape, quoteattr

_ILLEGAL = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def content(text: str) -> str:
    """Return `text` as the content of an element."""
    return escape(_ILLEGAL.sub("", text))


def attribute(text: str) -> str:
    """Return `text` as the value of an attribute, in quotation marks."""
    return quoteattr(_ILLEGAL.sub("", text))
