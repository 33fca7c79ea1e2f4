"""The pieces of text that a TrOCR writes: its own tokenizer, and what it cannot write."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from nordocr_cli.charset import Charset, describe_character
from nordocr_cli.errors import ArtifactError

_MAXIMUM_NAMED = 12


class TokenizerAdapter:
    """A tokenizer that keeps every character as it is. `start`, `pad` and `end` are token ids.

    A text begins with `start`, which in the released networks is the end's id, and is written
    without the tokenizer's own beginning `<s>`: with both, a fine-tuned network learns to repeat
    the beginning.
    """

    def __init__(self, folder: Path, network: Any, vocabulary: int) -> None:
        from transformers import AutoTokenizer

        try:
            self._tokenizer = AutoTokenizer.from_pretrained(folder)
        except Exception as error:  # a missing or damaged file raises almost anything there
            raise ArtifactError(
                f"{folder} holds no readable tokenizer ({type(error).__name__}: {error})"
            ) from error
        if len(self._tokenizer) > vocabulary:
            raise ArtifactError(
                f"{folder}: its tokenizer has {len(self._tokenizer):,} tokens, the decoder"
                f" {vocabulary:,}: another network's"
            )
        self.pad, self.end = (self._id(folder, network, name) for name in ("pad", "eos"))
        started = _given(network, "decoder_start_token_id")
        self.start = self.end if started is None else int(started)

    def _id(self, folder: Path, network: Any, name: str) -> int:
        """The id of a special token, of which tokenizer and network must think alike."""
        own = getattr(self._tokenizer, f"{name}_token_id")
        networks = _given(network, f"{name}_token_id")
        if own is None or networks not in (None, own):
            raise ArtifactError(
                f"{folder}: the {name} token is {own} to its tokenizer and {networks} to its"
                " network"
            )
        return int(own)

    def encode(self, texts: Sequence[str]) -> list[list[int]]:
        """Return the token ids of each text, its end among them."""
        if texts:
            ids = self._tokenizer(
                list(texts), add_special_tokens=False, return_attention_mask=False
            )["input_ids"]
        else:
            ids = []
        return [[*own, self.end] for own in ids]

    def decode(self, ids: Sequence[int]) -> str:
        """Return the text of token ids, special tokens left out, nothing tidied up."""
        return str(
            self._tokenizer.decode(
                list(ids), skip_special_tokens=True, clean_up_tokenization_spaces=False
            )
        )

    def comes_back(self, text: str) -> bool:
        """Whether the tokens of a text say that very text."""
        return self.decode(self.encode([text])[0]) == text

    def unwritable(self, charset: Charset) -> str:
        """Return the characters of `charset` that cannot be written, alone or between others."""
        return "".join(c for c in charset.characters if not self.comes_back(f"a{c}a"))

    def coverage(self, charset: Charset) -> str:
        """Return how much of `charset` can be written, in words."""
        lost = self.unwritable(charset)
        count = len(charset.characters)
        if not lost:
            return (
                f"its tokenizer writes all {count} characters of charset {charset.name!r}"
            )
        named = ", ".join(map(describe_character, lost[:_MAXIMUM_NAMED])) + (
            " …" if len(lost) > _MAXIMUM_NAMED else ""
        )
        return (
            f"its tokenizer CANNOT write {len(lost)} of the {count} characters of charset"
            f" {charset.name!r}: {named}"
        )


def _given(network: Any, name: str) -> Any:
    """A token id as the network's files give it: for generation, for all of it, or for the decoder;
    None where none does.
    """
    places = (network.generation_config, network.config, network.config.decoder)
    for place in places:
        value = getattr(place, name, None)
        if value is not None:
            return value
    return None
