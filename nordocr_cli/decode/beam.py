"""CTC prefix beam search: the most probable text, while greedy decoding takes the most probable
path. Many paths give the same text; a beam sums their probabilities. All arithmetic is in
logarithms, float64, so that a line of hundreds of frames does not underflow.
"""

import numpy as np
from numpy.typing import NDArray

from nordocr_cli.artifact.contract import OutputActivation
from nordocr_cli.charset import BLANK, Charset
from nordocr_cli.decode.ctc import require_sane, require_shapes
from nordocr_cli.decode.language import Language
from nordocr_cli.errors import UsageError
from nordocr_cli.records import Recognition

BEAM_WIDTH = 10

FrameSpan = tuple[int, int]


def decode_beam(
    logits: NDArray[np.floating],
    frames: NDArray[np.integer],
    charset: Charset,
    activation: OutputActivation = "logits",
    temperature: float = 1.0,
    beam_width: int = BEAM_WIDTH,
    language: Language | None = None,
) -> list[Recognition]:
    """Return the most probable text of each line of a batch, keeping `beam_width` texts from frame
    to frame.

    Arguments, results and errors are those of `decode_greedy`; UsageError is also raised for an
    output of best classes only. A text that sums several paths has no spans of its own; they are
    those of its most probable path. `temperature` affects only confidences. `language` adds the
    scores of a language model.
    """
    if activation == "argmax+confidence":
        raise UsageError(
            "this model gives only the best class of each frame, but a beam needs all classes:"
            " export it with logits"
        )
    logits = np.asarray(logits, dtype=np.float32)
    frames = np.asarray(frames)
    require_shapes(logits, frames, charset, activation)
    own = np.arange(logits.shape[1]) < frames[:, None]  # (N, T)
    require_sane(logits.max(axis=2, initial=-np.inf), own, activation)
    temperature = temperature if activation == "logits" else 1.0
    return [
        _read_line(
            _log_probabilities(line[:length], activation),
            charset,
            beam_width,
            temperature,
            language,
        )
        for line, length in zip(logits, frames.tolist(), strict=True)
    ]


def _read_line(
    log_probs: NDArray[np.float64],
    charset: Charset,
    beam_width: int,
    temperature: float,
    language: Language | None,
) -> Recognition:
    classes, _ = beam_search(log_probs, beam_width, language, charset.characters)[0]
    if not classes:
        return Recognition("", 0.0)
    spans = best_path_spans(log_probs, classes)
    if temperature != 1.0:
        log_probs = _log_softmax(log_probs / temperature)
    best = [
        float(log_probs[first:last, c].max())
        for c, (first, last) in zip(classes, spans, strict=True)
    ]
    confidence = float(np.exp(np.mean(best)))
    return Recognition(
        charset.decode(classes), confidence, tuple(np.exp(best).tolist()), tuple(spans)
    )


def _log_probabilities(
    line: NDArray[np.float32], activation: OutputActivation
) -> NDArray[np.float64]:
    """Log-softmax of one line's own frames, or the logarithm of probabilities: (T, C)."""
    scores = line.astype(np.float64)
    if activation == "softmax":
        with np.errstate(divide="ignore"):  # log 0 is -inf, which is right
            return np.log(scores)
    return _log_softmax(scores)


def _log_softmax(scores: NDArray[np.float64]) -> NDArray[np.float64]:
    scores = scores - scores.max(axis=1, keepdims=True)
    return scores - np.log(np.exp(scores).sum(axis=1, keepdims=True))


def beam_search(
    log_probs: NDArray[np.float64],
    beam_width: int = BEAM_WIDTH,
    language: Language | None = None,
    characters: str = "",
) -> list[tuple[tuple[int, ...], float]]:
    """Return the texts in the beam after the last frame as (classes, log probability), the most
    probable first.

    `log_probs` are log-probabilities (T, C), class 0 the blank. A probability is that of all paths
    that the beam kept: with a beam wide enough for every prefix it is exact, else a lower bound.
    Without frames the one text is the empty one. With a `language`, whose classes are `characters`,
    its scores are added to the probabilities, and texts are kept and sorted by that.
    """
    # Prefixes are nodes of a tree, so that a prefix which left the beam and comes back is the same
    # node again.
    children: dict[tuple[int, int], int] = {}
    parents, ends = [-1], [BLANK]
    # of each node: its text and the scores of the language model; not kept without one
    texts, bonuses = [""], [0.0]
    nodes = np.zeros(1, dtype=np.int64)  # (K,) the prefixes in the beam
    # (K,) log probability of its paths, by their ending
    in_blank, in_character = np.zeros(1), np.full(1, -np.inf)
    for frame in log_probs:  # (C,)
        last = np.array([ends[node] for node in nodes.tolist()])  # (K,)
        total = np.logaddexp(in_blank, in_character)
        stay_blank = total + frame[BLANK]
        # the last character continues
        stay_character = np.where(last == BLANK, -np.inf, in_character + frame[last])
        grown = total[:, None] + frame  # (K, C)
        rows = np.arange(len(nodes))
        # The same character again: only across a blank.
        grown[rows, last] = in_blank + frame[last]
        grown[:, BLANK] = -np.inf
        # A prefix that grows into another one of the beam adds to that one.
        position = {node: k for k, node in enumerate(nodes.tolist())}
        for k, node in enumerate(nodes.tolist()):
            parent = position.get(parents[node])
            if parent is not None:
                stay_character[k] = np.logaddexp(stay_character[k], grown[parent, last[k]])
                grown[parent, last[k]] = -np.inf
        scores = np.concatenate([np.logaddexp(stay_blank, stay_character), grown.ravel()])
        if language:
            bonus = np.array([bonuses[node] for node in nodes.tolist()])  # (K,)
            of_next = [language.scores(texts[node]) for node in nodes.tolist()]  # K of (C,)
            next_bonus = bonus[:, None] + of_next  # (K, C)
            scores += np.concatenate([bonus, next_bonus.ravel()])
        if len(scores) > beam_width:
            kept = np.argpartition(-scores, beam_width)[:beam_width]
        else:
            kept = np.arange(len(scores))
        kept = kept[scores[kept] > -np.inf]
        staying, growing = kept[kept < len(nodes)], kept[kept >= len(nodes)] - len(nodes)
        new = []
        for k, c in zip(*np.divmod(growing, len(frame)), strict=True):
            step = (int(nodes[k]), int(c))
            if step not in children:
                children[step] = len(parents)
                parents.append(step[0])
                ends.append(step[1])
                if language:
                    texts.append(texts[step[0]] + characters[step[1] - 1])
                    bonuses.append(float(next_bonus[k, c]))
            new.append(children[step])
        in_blank = np.concatenate([stay_blank[staying], np.full(len(growing), -np.inf)])
        in_character = np.concatenate([stay_character[staying], grown.ravel()[growing]])
        nodes = np.concatenate([nodes[staying], np.array(new, dtype=np.int64)])
    total = np.logaddexp(in_blank, in_character)
    if language:
        total += [bonuses[node] + language.end(texts[node]) for node in nodes.tolist()]
    order = np.argsort(-total, kind="stable").tolist()
    return [(_classes_of(int(nodes[k]), parents, ends), float(total[k])) for k in order]


def _classes_of(node: int, parents: list[int], ends: list[int]) -> tuple[int, ...]:
    classes = []
    while node:
        classes.append(ends[node])
        node = parents[node]
    return tuple(reversed(classes))


def best_path_spans(
    log_probs: NDArray[np.float64], classes: tuple[int, ...]
) -> list[FrameSpan]:
    """Return the [first, last + 1) frames of each character on the most probable path that writes
    `classes`.

    `log_probs` are (T, C). Raises ValueError when T frames cannot write so many characters.
    """
    states = np.full(2 * len(classes) + 1, BLANK)
    states[1::2] = classes  # blank, a, blank, b, blank: S states
    # From the character before, over no blank, only where the two differ.
    skips = np.zeros(len(states), dtype=bool)
    skips[3::2] = states[3::2] != states[1:-2:2]
    score = np.full(len(states), -np.inf)
    score[:2] = log_probs[0, states[:2]]
    came = np.zeros((len(log_probs), len(states)), dtype=np.int64)  # how many states back
    for t, frame in enumerate(log_probs[1:], start=1):
        one, two = np.full_like(score, -np.inf), np.full_like(score, -np.inf)
        one[1:], two[2:] = score[:-1], score[:-2]
        options = np.stack([score, one, np.where(skips, two, -np.inf)])  # (3, S)
        came[t] = options.argmax(axis=0)
        score = options.max(axis=0) + frame[states]
    state = len(states) - 1 if score[-1] >= score[-2] else len(states) - 2
    if score[state] == -np.inf:
        raise ValueError(f"{len(log_probs)} frames cannot write {len(classes)} characters")
    path = np.empty(len(log_probs), dtype=np.int64)
    for t in range(len(log_probs) - 1, -1, -1):
        path[t] = state
        state -= int(came[t, state])
    return [
        (int(t[0]), int(t[-1]) + 1)
        for t in (np.flatnonzero(path == 2 * i + 1) for i in range(len(classes)))
    ]
