"""The campaign of fault injections, a few trials of every kind that needs no minutes."""

import json
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "scripts"))

import campaign
from faults import artifacts, commands, inputs, special
from faults.trials import Kind, WrongResult, retry_failures, run_kind

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="it forks and kills")


@pytest.mark.parametrize(
    "kind", [*artifacts.KINDS, *inputs.KINDS], ids=lambda kind: kind.name
)
def test_no_damage_changes_a_result_or_ends_the_program(kind):
    tally = run_kind(kind, 6, seed=5)
    assert tally.tried == 6
    assert tally.bad == 0, tally.failures


def test_no_hostile_file_or_option_ends_in_a_traceback():
    (kind,) = (kind for kind in commands.KINDS if kind.name == "commands")
    tally = run_kind(kind, 12, seed=5)
    assert (tally.tried, tally.bad) == (12, 0), tally.failures


def test_no_special_file_hangs_fills_memory_or_is_replaced():
    (kind,) = special.KINDS
    tally = run_kind(kind, 40, seed=5)
    assert (tally.tried, tally.bad) == (40, 0), tally.failures


def test_every_bad_end_is_counted(tmp_path):
    import os
    import signal
    import time

    def prepare(folder):
        def trial(number, rng):
            if number == 0:
                raise WrongResult("other text")
            if number == 1:
                raise KeyError("bug")
            if number == 2:
                os.kill(os.getpid(), signal.SIGSEGV)
            if number == 3:
                time.sleep(60)
            return "accepted"

        return trial

    tally = run_kind(Kind("self", "", 5, prepare, limit_s=4), 5, seed=1)
    counted = (tally.wrong, tally.crashed, tally.signals, tally.hung, tally.accepted)
    assert counted == (1, 1, 1, 1, 1)
    assert "KeyError" in tally.failures[1]
    fixed = Kind("self", "", 5, lambda _: lambda number, rng: "accepted", limit_s=4)
    tally = retry_failures(fixed, tally)
    assert (tally.tried, tally.accepted, tally.bad, tally.failures) == (5, 5, 0, [])


def test_the_table_of_the_page_is_that_of_the_saved_result():
    page = campaign.PAGE.read_text(encoding="utf-8")
    result = json.loads(campaign.RESULT.read_text(encoding="utf-8"))
    assert campaign.to_table(result) in page
    assert {kind["name"] for kind in result["kinds"]} <= set(campaign.KINDS)
