import pytest

from nordocr_cli.charset import NORDIC
from nordocr_cli.training.diagnosis import check_verdict, faults_of

WORDS = (
    "Faktura 1023",
    "Å betale: 250,00",
    "Moms 25 %",
    "Þökk fyrir",
    "Kundnr 8814",
    "Forfald 3. maj",
    "Ærø Øl",
    "Netto 9,50",
)
TEXTS = [f"{words} {'kr' * number}" for number in range(3) for words in WORDS]


def moved(text, offset):
    characters = NORDIC.characters
    return "".join(
        characters[(characters.index(c) + offset) % len(characters)] for c in text
    )


@pytest.mark.parametrize(
    ("read", "kind", "said"),
    [
        (
            lambda i: "eeeeeeee",
            "repeated characters",
            "24 of 24 readings repeat one character or two, e.g. 'eeeeeeee'",
        ),
        (
            lambda i: "1-B-B-B-B" + TEXTS[i],
            "repeated characters",
            "24 of 24 readings repeat",
        ),
        (
            lambda i: "Sum",
            "one reading",
            "24 of 24 lines are read as 'Sum' whatever they show",
        ),
        (lambda i: TEXTS[(i + 1) % 24], "shifted labels", "the line after (CER 0% there"),
        (lambda i: TEXTS[i - 1], "shifted labels", "the line before (CER 0% there"),
        (lambda i: moved(TEXTS[i], 1), "shifted classes", "moved by -1 (CER 0% there"),
        (lambda i: moved(TEXTS[i], -1), "shifted classes", "moved by +1 (CER 0% there"),
    ],
)
def test_readings_show_what_is_wrong(read, kind, said):
    faults = faults_of([(text, read(i)) for i, text in enumerate(TEXTS)], NORDIC)
    assert said in faults[kind]


@pytest.mark.parametrize(
    "read",
    [
        lambda text: text,
        lambda text: "",
        lambda text: text[:-2] + "?",
        lambda text: text[::2],
        lambda text: text + "eee",
    ],
)
def test_other_readings_are_no_such_fault(read):
    assert not faults_of([(text, read(text)) for text in TEXTS], NORDIC)
    dots = [("Sum .......... 20", "Sum .......... 2")] * 24
    assert not faults_of(dots, NORDIC)
    assert not faults_of([("aaa bbb", "cccccccc")] * 7, NORDIC)  # too few to say anything


@pytest.mark.parametrize(
    ("losses", "empty", "faults", "verdict"),
    [
        ([9.0, 8.0, 7.0, 6.0, 5.0], 1.0, {}, "ok: loss 9.00 → 5.00 in 5 steps"),
        (
            [5.0, 5.5, 6.0, 6.5, 7.0],
            0.0,
            {},
            "failed: loss 5.00 → 7.00 in 5 steps, it does not fall",
        ),
        ([5.0, 5.0, 4.99, 4.99, 4.99], 0.0, {}, "it does not fall"),
        (
            [5.0, float("nan"), 4.0],
            0.0,
            {},
            "failed: the loss of 1 of 3 steps is not finite",
        ),
        ([8.0 - 0.02 * step for step in range(300)], 0.95, {}, "plateau"),
        (
            [8.0 - 0.02 * step for step in range(300)],
            0.1,
            {"one reading": "all read alike"},
            "but all read alike",
        ),
        (
            [8.0 - 0.02 * step for step in range(300)],
            0.1,
            {},
            "ok: loss 7.41 → 2.61 in 300 steps",
        ),
        (
            [8.0 - 0.002 * step for step in range(300)],
            0.1,
            {},
            "should have halved; too slow: try train.lr=0.01 (10 times as much)",
        ),
        (
            [5.0] * 20 + [9.0] * 40 + [4.0] * 40,
            0.1,
            {},
            "the loss rose on the way: try train.lr=0.0001 (a tenth)",
        ),
        (
            [9.0, 8.0, 7.0, 6.0, 5.0],
            0.0,
            {"repeated characters": "9 of 9 readings repeat"},
            "ok: loss 9.00 → 5.00 in 5 steps; 9 of 9 readings repeat",
        ),
    ],
)
def test_a_short_run_is_judged(losses, empty, faults, verdict):
    assert verdict in check_verdict(losses, empty, faults, 1e-3)
