"""Trials: one damaged input each, run in child processes so that a crash or a hang is counted and
the next trial still runs.
"""

import os
import random
import re
import select
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from nordocr_cli.errors import NordocrError

Result = Literal["refused", "accepted"]
Trial = Callable[[int, random.Random], Result]
_NAMED_FAILURES = 50  # these can be tried again
_REPORT_S = 60.0  # between two reports of the counts


class TimedOut(BaseException):
    """A trial takes too long. Not an Exception, so that what is tried does not handle it."""


class WrongResult(Exception):
    """The damaged input was taken, and what came of it is not what the undamaged one gives."""


@dataclass(frozen=True)
class Kind:
    """One kind of fault. `prepare` makes what the trials need in a folder and returns the trial;
    `goal` is the number of trials of a full campaign.
    """

    name: str
    title: str
    goal: int
    prepare: Callable[[Path], Trial]
    limit_s: float = 60.0


@dataclass
class Tally:
    """What came of the trials of a kind. `failures` describes the first few bad ones."""

    name: str
    title: str
    goal: int
    seed: int = 1
    tried: int = 0
    refused: int = 0
    accepted: int = 0
    wrong: int = 0
    crashed: int = 0
    signals: int = 0
    hung: int = 0
    seconds: float = 0.0
    failures: list[str] = field(default_factory=list)

    @property
    def bad(self) -> int:
        """How many trials must not have ended as they did."""
        return self.wrong + self.crashed + self.signals + self.hung

    def add(self, number: int, outcome: str, detail: str = "") -> None:
        """Count one trial."""
        self.tried += 1
        setattr(self, outcome, getattr(self, outcome) + 1)
        if outcome in ("refused", "accepted"):
            return
        failure = f"trial {number}: {outcome}: {detail}"
        print(f"    {failure[:2000]}", flush=True)
        if len(self.failures) < _NAMED_FAILURES:
            self.failures.append(failure[:600])

    def take_back(self, failure: str) -> int:
        """Uncount a failed trial and return its number, so that it can be tried again."""
        found = re.match(r"trial (\d+): (\w+):", failure)
        assert found is not None, failure
        self.failures.remove(failure)
        self.tried -= 1
        setattr(self, found[2], getattr(self, found[2]) - 1)
        return int(found[1])


def run_kind(
    kind: Kind,
    count: int,
    seed: int,
    most_s: float = float("inf"),
    *,
    before: Tally | None = None,
    report: Callable[[Tally], None] = lambda _: None,
) -> Tally:
    """Run the trials of a kind up to number `count`, or as many as `most_s` seconds allow,
    preparations aside. With `before` the trials after those go on from it. `report` gets the counts
    so far now and then, and at the end.
    """
    tally = before or Tally(kind.name, kind.title, kind.goal, seed)
    tally.title = kind.title
    tally.goal = kind.goal
    spent_s = tally.seconds
    began = time.monotonic()
    if tally.tried >= count:
        return tally
    with tempfile.TemporaryDirectory(prefix=f"nordocr-{kind.name}-") as folder:
        trial = kind.prepare(Path(folder))
        until = time.monotonic() + most_s
        while tally.tried < count and time.monotonic() < until:
            _run_child(kind, trial, count, tally, min(until, time.monotonic() + _REPORT_S))
            tally.seconds = round(spent_s + time.monotonic() - began, 1)
            report(tally)
    return tally


def retry_failures(kind: Kind, tally: Tally) -> Tally:
    """Run the named failures of a kind again, after their cause was fixed, and count them again."""
    with tempfile.TemporaryDirectory(prefix=f"nordocr-{kind.name}-") as folder:
        trial = kind.prepare(Path(folder))
        for failure in list(tally.failures):
            number = tally.take_back(failure)
            alone = Tally(kind.name, kind.title, kind.goal, tally.seed, tried=number)
            _run_child(kind, trial, number + 1, alone, time.monotonic() + kind.limit_s)
            outcome = next(
                name
                for name in ("refused", "accepted", "wrong", "crashed", "signals", "hung")
                if getattr(alone, name)
            )
            tally.tried += 1
            setattr(tally, outcome, getattr(tally, outcome) + 1)
            tally.failures += alone.failures
    return tally


def _run_child(kind: Kind, trial: Trial, count: int, tally: Tally, until: float) -> None:
    """Run trials from the first that is not counted on in a child, until it ends, dies or hangs."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reader)
        numbers = range(tally.tried, count)
        _serve(kind, trial, numbers, f"{tally.seed}-{kind.name}", writer)

    os.close(writer)
    buffered = b""
    try:
        while tally.tried < count:
            ready, _, _ = select.select([reader], [], [], kind.limit_s)
            if not ready:
                tally.add(tally.tried, "hung", f"no end after {kind.limit_s:g} s")
                return
            content = os.read(reader, 1 << 16)
            if not content:
                break
            *lines, buffered = (buffered + content).split(b"\n")
            for line in lines:
                outcome, _, detail = line.decode("utf-8", "replace").partition(" ")
                tally.add(tally.tried, outcome, detail)
            if time.monotonic() > until:
                return
    finally:
        os.kill(child, signal.SIGKILL)
        status = os.waitpid(child, 0)[1]
        os.close(reader)
    if tally.tried < count:
        # It ended by itself in the middle of a trial.
        outcome = "signals" if os.WIFSIGNALED(status) else "crashed"
        tally.add(tally.tried, outcome, f"the process ended with status {status}")


def _serve(kind: Kind, trial: Trial, numbers: range, seed: str, writer: int) -> None:
    """Run trials in the child and write one line for each. Never returns."""
    signal.signal(signal.SIGALRM, _stop_trial)
    try:
        for number in numbers:
            # Earlier than the parent, which ends the child: this way the place is known.
            signal.setitimer(signal.ITIMER_REAL, 0.9 * kind.limit_s)
            line = _outcome(trial, number, random.Random(f"{seed}-{number}"))
            signal.setitimer(signal.ITIMER_REAL, 0)
            os.write(writer, line.replace("\n", " | ").encode("utf-8", "replace") + b"\n")
        # The parent ends it, so that "ended by itself" always means a crash.
        time.sleep(3600)
    except BaseException:  # noqa: BLE001 - reported, and the child ends
        traceback.print_exc(file=sys.stderr)
    finally:
        os._exit(70)


def _stop_trial(*_: object) -> None:
    raise TimedOut("no end")


def _outcome(trial: Trial, number: int, rng: random.Random) -> str:
    try:
        return trial(number, rng)
    except NordocrError:
        return "refused"
    except WrongResult as error:
        return f"wrong {error}"
    except TimedOut as error:
        return (
            f"hung {error} ({' '.join(traceback.format_exc().strip().splitlines()[-5:])})"
        )
    except BaseException as error:  # noqa: BLE001 - what a campaign looks for
        where = traceback.format_exc().strip().splitlines()[-3:]
        return f"crashed {type(error).__name__}: {error} ({' '.join(where)})"


def flipped(content: bytes, rng: random.Random, bits: int = 1) -> bytes:
    """`content` with some bits flipped."""
    changed = bytearray(content)
    for _ in range(bits):
        changed[rng.randrange(len(changed))] ^= 1 << rng.randrange(8)
    return bytes(changed)


def damaged(content: bytes, rng: random.Random) -> bytes:
    """`content` damaged in one of the ways in which disks and transfers damage files."""
    at = rng.randrange(len(content))
    length = rng.randrange(1, 64)
    ways = (
        lambda: flipped(content, rng),
        lambda: flipped(content, rng, bits=rng.randrange(2, 40)),
        lambda: content[:at],
        lambda: content[:at] + content[at + length :],
        lambda: content[:at] + rng.randbytes(length) + content[at:],
        lambda: content[:at] + bytes(length) + content[at + length :],
        lambda: content + content[:length],
    )
    return rng.choice(ways)()
