"""Commands that are struck at any moment, again and again, end as one that was left alone. Longer: make soak."""

import random
import signal

import pytest
from harness import ASKING, CASES, assert_same_end, make_environment, run, strike
from launching import shared_folder

STRIKES = {"digits, device": 7, "AlexNet, host": 3, "AlexNet, stream": 3, "study": 4, "two processes": 3}


@pytest.mark.slow
@pytest.mark.parametrize("name", STRIKES)
def test_a_command_that_was_struck_ends_as_one_that_was_not(tmp_path_factory, tmp_path, name):
    case, env = CASES[name], make_environment(shared_folder(tmp_path_factory, "faults-cache"))
    folder = tmp_path / "whole"
    run(case, env, folder)
    whole = run(case, env, tmp_path / "warm")  # its programs are compiled
    draw, rounds, left = random.Random(1), 0, STRIKES[name]
    while left:
        place = tmp_path / f"run-{rounds}"
        for _ in range(min(left, draw.randint(2, 5))):
            number = draw.choice([signal.SIGKILL, signal.SIGKILL, *ASKING])
            strike(case, env, place, number, draw, whole)
            left -= 1
        run(case, env, place)
        assert_same_end(case, place, folder)
        rounds += 1
