"""CTC decoding with a language model where the network is in doubt.

Greedy decoding cuts the frames of a line into stretches: one for each character, and the blanks
between them. In most stretches the network leaves no doubt. Where another class is nearly as likely
as the best one, it becomes a choice: another character, no character, or one more between two. A
beam then takes the choices for which the network and the language model together give most. A line
without doubt keeps its greedy text, and costs no more. An O next to a digit may become a zero
although the network prefers the O.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import pairwise
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from nordocr_cli.artifact.contract import OutputActivation
from nordocr_cli.charset import BLANK, Charset
from nordocr_cli.decode.ctc import decode_greedy
from nordocr_cli.decode.language import LanguageModel
from nordocr_cli.errors import UsageError
from nordocr_cli.records import Recognition

# The minimum likelihood of a choice relative to the best class, and the texts kept: chosen on
# development lines, see docs/recipe.md.
MINIMUM_LIKELIHOOD = 0.003
BEAM_WIDTH = 8
# Many tills and needle printers draw 0 and O alike, and the network's preference says little. The
# weight of its log likelihoods between the two, where an O stands next to a digit, and the minimum
# likelihood of the zero relative to the O.
ZERO_WEIGHT = 0.3
MINIMUM_ZERO_LIKELIHOOD = 0.001
_O_NEXT_TO_DIGIT = re.compile("[0-9]O|O[0-9]")


class Choice(NamedTuple):
    """A class that a stretch of frames may stand for, the blank where it is no character. `score`
    is its log likelihood relative to the greedy class.
    """

    character: int
    score: float


class Stretch(NamedTuple):
    """The frames [first, last) that greedy decoding gives one class, and what they may stand for;
    the greedy class comes first.
    """

    first: int
    last: int
    choices: Sequence[Choice]


class _Text(NamedTuple):
    """A text in the beam: its characters as a chain, the last one first."""

    score: float
    context: int
    chain: "tuple[_Text, int, Stretch] | None" = None


def decode_with_language(
    logits: NDArray[np.floating],
    frames: NDArray[np.integer],
    charset: Charset,
    activation: OutputActivation = "logits",
    temperature: float = 1.0,
    *,
    language: LanguageModel,
    beam_width: int = BEAM_WIDTH,
) -> list[Recognition]:
    """Return the text of each line of a batch: greedy decoding, corrected where the network is in
    doubt and `language` prefers another text.

    Arguments, results and errors are those of `decode_greedy`; UsageError is also raised for an
    output of best classes only. A character's confidence is the network's alone.
    """
    if activation == "argmax+confidence":
        raise UsageError(
            "this model gives only the best class of each frame, but a language model needs all"
            " classes: export it with logits, or use --decoder greedy"
        )
    greedy = decode_greedy(logits, frames, charset, activation, temperature)
    scores = np.asarray(logits, dtype=np.float32)  # (N, T, C)
    if activation == "softmax":
        scores = np.log(np.maximum(scores, np.finfo(np.float32).tiny))
        temperature = 1.0

    best = scores.max(axis=2, keepdims=True)  # (N, T, 1)
    near = scores > best + np.log(MINIMUM_LIKELIHOOD)  # (N, T, C)
    in_doubt = near.sum(axis=2) > 1  # (N, T)

    readings: list[Recognition] = []
    for index, length in enumerate(np.asarray(frames).tolist()):
        doubtful = in_doubt[index, :length]
        text = greedy.texts[index]
        # Where greedy decoding reads nothing, no writing is invented.
        if not text or not (doubtful.any() or _O_NEXT_TO_DIGIT.search(text)):
            readings.append(greedy[index])
            continue
        line = scores[index, :length]
        found = best_text(list(stretches(line, doubtful, language)), language, beam_width)
        readings.append(_recognition(line, found, charset, temperature))
    return readings


def stretches(
    line: NDArray[np.float32], in_doubt: NDArray[np.bool_], language: LanguageModel
) -> Iterator[Stretch]:
    """Yield the stretches of one line's frames, those of characters and those in doubt, with the
    choices that `language` may take.

    `line` (T, C) are logits or log probabilities, `in_doubt` (T,) the frames where several classes
    are likely.
    """
    classes = line.argmax(axis=1)  # (T,)
    doubts_before = [0, *np.cumsum(in_doubt).tolist()]
    changes = np.flatnonzero(np.diff(classes)) + 1
    bounds = [0, *changes.tolist(), len(classes)]
    likely_zeros = _letters_next_to_digits(classes, bounds[:-1], language)
    for first, last in pairwise(bounds):
        character = int(classes[first])
        may_be_zero = first in likely_zeros
        if doubts_before[last] == doubts_before[first] and not may_be_zero:
            if character != BLANK:
                yield Stretch(first, last, (Choice(character, 0.0),))
            continue

        # A class that touches this stretch would merge with its neighbour.
        touching = [int(classes[at]) for at in (first - 1, last) if 0 <= at < len(classes)]
        if character == BLANK:
            likely = _insertions(line[first:last], touching)
            others = [c for c in likely if language.may_add(c.character)]
        else:
            likely = _replacements(line[first:last], character, touching)
            others = [c for c in likely if language.may_replace(character, c.character)]
            if may_be_zero:
                others = _with_zero(others, line[first:last], character, language)
        if character != BLANK or others:
            yield Stretch(first, last, (Choice(character, 0.0), *others))


def _letters_next_to_digits(
    classes: NDArray[np.integer], firsts: Sequence[int], language: LanguageModel
) -> set[int]:
    """The first frames of the letters O that stand next to a digit, with nothing but letters O in
    between. `classes` (T,) are the best classes, `firsts` the first frames of their stretches.
    """
    if language.letter_o is None:
        return set()
    written = [first for first in firsts if classes[first] != BLANK]
    found: set[int] = set()
    for direction in (written, written[::-1]):
        follows_digit = False
        for first in direction:
            character = int(classes[first])
            if character == language.letter_o and follows_digit:
                found.add(first)
            else:
                follows_digit = character in language.digits
    return found


def _with_zero(
    choices: Sequence[Choice],
    frames: NDArray[np.float32],
    character: int,
    language: LanguageModel,
) -> list[Choice]:
    """The choices for a letter O in its frames (t, C), with the zero by its own weight unless it is
    out of the question.
    """
    zero = language.zero
    assert zero is not None
    difference = float((frames[:, zero] - frames[:, character]).max())
    others = [choice for choice in choices if choice.character != zero]
    if difference < np.log(MINIMUM_ZERO_LIKELIHOOD):
        return others
    return [*others, Choice(zero, ZERO_WEIGHT * difference)]


def _insertions(frames: NDArray[np.float32], touching: Sequence[int]) -> list[Choice]:
    """The characters that may stand in a stretch of blanks (t, C), each in its best frame."""
    gain = (frames - frames[:, BLANK, None]).max(axis=0)  # (C,)
    gain[[BLANK, *touching]] = -np.inf
    likely = np.flatnonzero(gain > np.log(MINIMUM_LIKELIHOOD))
    return [Choice(int(c), float(gain[c])) for c in likely]


def _replacements(
    frames: NDArray[np.float32], character: int, touching: Sequence[int]
) -> list[Choice]:
    """What may stand in place of a character in its frames (t, C): another one in its best frame
    with blanks or itself in the rest, or blanks alone.
    """
    minimum = np.log(MINIMUM_LIKELIHOOD)
    relative = frames - frames[:, character, None]  # (t, C)
    blanks = relative[:, BLANK]
    found = []
    for other in np.flatnonzero(relative.max(axis=0) > minimum).tolist():
        if other == character or (other != BLANK and other in touching):
            continue
        if other == BLANK:
            score = float(blanks.sum())
        else:
            own = relative[:, other]
            rest = np.maximum(blanks, own)
            at = int(own.argmax())
            score = float(own[at] + rest.sum() - rest[at])
        if score > minimum:
            found.append(Choice(other, score))
    return found


def best_text(
    line: Sequence[Stretch], language: LanguageModel, beam_width: int = BEAM_WIDTH
) -> list[tuple[int, Stretch]]:
    """Return the characters, each with its stretch, for which the network and the language model
    together give most.

    Texts that end in the same context have the same future, so that only the best of them is kept.
    While one text is left, nothing has to be scored.
    """
    beam = [_Text(0.0, language.beginning)]
    for stretch in line:
        if len(beam) == 1 and len(stretch.choices) == 1:
            beam = [
                _grown(beam[0], stretch, stretch.choices[0], bonus=0.0, language=language)
            ]
            continue
        best: dict[int, _Text] = {}
        for text in beam:
            for choice in stretch.choices:
                grown = _scored(text, stretch, choice, language)
                known = best.get(grown.context)
                if known is None or known.score < grown.score:
                    best[grown.context] = grown
        beam = sorted(best.values(), key=lambda text: -text.score)[:beam_width]
    if len(beam) > 1:
        beam.sort(key=lambda text: -(text.score + language.end(text.context)))
    return _characters_of(beam[0])


def _scored(
    text: _Text, stretch: Stretch, choice: Choice, language: LanguageModel
) -> _Text:
    if choice.character == BLANK:
        return _Text(text.score + choice.score, text.context, text.chain)
    bonus = language.score(text.context, choice.character)
    return _grown(text, stretch, choice, bonus, language)


def _grown(
    text: _Text, stretch: Stretch, choice: Choice, bonus: float, language: LanguageModel
) -> _Text:
    return _Text(
        text.score + choice.score + bonus,
        language.extended(text.context, choice.character),
        (text, choice.character, stretch),
    )


def _characters_of(text: _Text) -> list[tuple[int, Stretch]]:
    found = []
    chain = text.chain
    while chain is not None:
        before, character, stretch = chain
        found.append((character, stretch))
        chain = before.chain
    return found[::-1]


def _recognition(
    line: NDArray[np.float32],
    found: Sequence[tuple[int, Stretch]],
    charset: Charset,
    temperature: float,
) -> Recognition:
    """The text with confidences as greedy decoding has them: each character's highest probability
    among its frames, and their geometric mean.
    """
    text = charset.decode([c for c, _ in found])
    spans = tuple((at.first, at.last) for _, at in found)
    return regraded(Recognition(text, 0.0, spans=spans), line, charset, temperature)


def regraded(
    reading: Recognition, line: NDArray[np.float32], charset: Charset, temperature: float
) -> Recognition:
    """Return a reading with its confidences at another temperature. `line` (T, C) are the logits of
    its own frames.
    """
    if not reading.text:
        return reading
    scaled = line / np.float32(temperature)  # (T, C)
    peaks = scaled.max(axis=1, keepdims=True)
    log_total = peaks + np.log(np.exp(scaled - peaks).sum(axis=1, keepdims=True))
    log_probabilities = scaled - log_total  # (T, C)

    characters = charset.encode(reading.text)
    firsts = [first for first, _ in reading.spans]
    logs = log_probabilities[
        firsts, characters
    ]  # (K,) at the first frame of each character
    for at, (first, last) in enumerate(reading.spans):
        if last - first > 1:
            logs[at] = log_probabilities[first:last, characters[at]].max()
    return replace(
        reading,
        confidence=float(np.exp(np.mean(logs))),
        char_confidences=tuple(np.exp(logs).tolist()),
    )
