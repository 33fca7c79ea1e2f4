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
from dataclasses import dataclass
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
RESCORING_WIDTH = 8
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


class StretchDecision(NamedTuple):
    """What decoding chose for a stretch: the class, or the blank where there is no character, and
    its probability among the choices by the network's scores and `bonuses`, those of the language
    model for each choice in nats. `bonuses` is empty where there was one choice.
    """

    stretch: Stretch
    chosen: int
    bonuses: tuple[float, ...]

    def log_probability(
        self, log_probabilities: NDArray[np.float32], temperature: float
    ) -> float:
        """Return the natural logarithm of the probability of what was chosen.

        `log_probabilities` (T, C) are the network's at `temperature`. One choice has its highest
        probability in the stretch. One of several has its share of them, times the probability
        that the network gives to all of them.
        """
        first, last, choices = self.stretch
        best = float(log_probabilities[first:last, choices[0].character].max())
        if len(choices) == 1:
            return best
        network = np.array([choice.score for choice in choices]) / temperature
        together = network + np.array(self.bonuses)
        classes = [choice.character for choice in choices]
        share = together[classes.index(self.chosen)] - np.logaddexp.reduce(together)
        of_all = min(0.0, best + float(np.logaddexp.reduce(network)))
        return float(share) + of_all


@dataclass(frozen=True)
class DecodedLine:
    """The decisions for one line, in its order, and the scores (T, C) that they were made from."""

    scores: NDArray[np.float32]
    decisions: Sequence[StretchDecision]

    def recognition(self, charset: Charset, temperature: float) -> Recognition:
        """Return the text with confidences at a temperature.

        The line's confidence is the geometric mean of those of its characters. What was decided
        about a gap counts for the character before it, at the beginning for the one after it.
        """
        scaled = self.scores / np.float32(temperature)  # (T, C)
        peaks = scaled.max(axis=1, keepdims=True)
        log_total = peaks + np.log(np.exp(scaled - peaks).sum(axis=1, keepdims=True))
        log_probabilities = scaled - log_total  # (T, C)

        logs: list[float] = []
        before_text = 0.0
        for decision in self.decisions:
            found = decision.log_probability(log_probabilities, temperature)
            if decision.chosen != BLANK:
                logs.append(found)
            elif logs:
                logs[-1] += found
            else:
                before_text += found
        written = [d for d in self.decisions if d.chosen != BLANK]
        if not written:
            return Recognition("", 0.0)
        logs[0] += before_text
        return Recognition(
            charset.decode([decision.chosen for decision in written]),
            float(np.exp(np.mean(logs))),
            char_confidences=tuple(np.exp(logs).tolist()),
            spans=tuple((d.stretch.first, d.stretch.last) for d in written),
        )


class _Text(NamedTuple):
    """A text in the beam: what was chosen for each stretch as a chain, the last one first."""

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
    beam_width: int = RESCORING_WIDTH,
) -> list[Recognition]:
    """Return the text of each line of a batch: greedy decoding, corrected where the network is in
    doubt and `language` prefers another text.

    Arguments, results and errors are those of `decode_greedy`; UsageError is also raised for an
    output of best classes only. Confidences are those of `DecodedLine.recognition`; where nothing
    is in doubt they are those of `decode_greedy`.
    """
    scores = _log_scores(logits, activation)  # (N, T, C)
    greedy = decode_greedy(logits, frames, charset, activation, temperature)
    if activation == "softmax":
        temperature = 1.0
    in_doubt = _in_doubt(scores)

    readings: list[Recognition] = []
    for index, length in enumerate(np.asarray(frames).tolist()):
        doubtful = in_doubt[index, :length]
        text = greedy.texts[index]
        # Where greedy decoding reads nothing, no writing is invented.
        if not text or not (doubtful.any() or _O_NEXT_TO_DIGIT.search(text)):
            readings.append(greedy[index])
            continue
        line = scores[index, :length]
        decided = best_text(list(stretches(line, doubtful, language)), language, beam_width)
        readings.append(DecodedLine(line, decided).recognition(charset, temperature))
    return readings


def decode_lines(
    logits: NDArray[np.floating],
    frames: NDArray[np.integer],
    activation: OutputActivation = "logits",
    *,
    language: LanguageModel,
) -> list[DecodedLine]:
    """Decode as `decode_with_language` does, once for any number of temperatures. A line that is
    read as empty has no decisions. Raises UsageError for an output of best classes only.
    """
    scores = _log_scores(logits, activation)  # (N, T, C)
    in_doubt = _in_doubt(scores)
    decoded = []
    for index, length in enumerate(np.asarray(frames).tolist()):
        line = scores[index, :length]
        if (line.argmax(axis=1) == BLANK).all():
            decoded.append(DecodedLine(line, ()))
            continue
        found = list(stretches(line, in_doubt[index, :length], language))
        decoded.append(DecodedLine(line, best_text(found, language)))
    return decoded


def _log_scores(
    logits: NDArray[np.floating], activation: OutputActivation
) -> NDArray[np.float32]:
    """Return logits, or the logarithms of probabilities, (N, T, C)."""
    if activation == "argmax+confidence":
        raise UsageError(
            "this model gives only the best class of each frame, but a language model needs all"
            " classes: export it with logits, or use --decoder greedy"
        )
    scores = np.asarray(logits, dtype=np.float32)
    if activation == "softmax":
        return np.log(np.maximum(scores, np.finfo(np.float32).tiny))
    return scores


def _in_doubt(scores: NDArray[np.float32]) -> NDArray[np.bool_]:
    """Return the frames (N, T) in which the network finds several classes likely."""
    best = scores.max(axis=2, keepdims=True)  # (N, T, 1)
    near = scores > best + np.log(MINIMUM_LIKELIHOOD)  # (N, T, C)
    in_doubt: NDArray[np.bool_] = near.sum(axis=2) > 1
    return in_doubt


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
    line: Sequence[Stretch], language: LanguageModel, beam_width: int = RESCORING_WIDTH
) -> list[StretchDecision]:
    """Return for each stretch what the network and the language model together prefer.

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
    return _decisions_of(beam[0], language)


def _scored(
    text: _Text, stretch: Stretch, choice: Choice, language: LanguageModel
) -> _Text:
    bonus = _bonus(text, choice, language)
    return _grown(text, stretch, choice, bonus, language)


def _bonus(text: _Text, choice: Choice, language: LanguageModel) -> float:
    """Return the language model's bonus of a choice after a text; no character has none."""
    if choice.character == BLANK:
        return 0.0
    return language.score(text.context, choice.character)


def _grown(
    text: _Text, stretch: Stretch, choice: Choice, bonus: float, language: LanguageModel
) -> _Text:
    if choice.character == BLANK:
        context = text.context
    else:
        context = language.extended(text.context, choice.character)
    return _Text(
        text.score + choice.score + bonus, context, (text, choice.character, stretch)
    )


def _decisions_of(text: _Text, language: LanguageModel) -> list[StretchDecision]:
    """Return what was chosen for each stretch, in the order of the line."""
    found = []
    chain = text.chain
    while chain is not None:
        before, chosen, stretch = chain
        bonuses: tuple[float, ...] = ()
        if len(stretch.choices) > 1:
            bonuses = tuple(_bonus(before, choice, language) for choice in stretch.choices)
        found.append(StretchDecision(stretch, chosen, bonuses))
        chain = before.chain
    return found[::-1]
