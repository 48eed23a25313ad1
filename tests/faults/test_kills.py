"""Commands that are struck at any moment, again and again, end as one that was left alone. Longer: make soak."""

import random
import signal

import pytest
from harness import ASKING, CASES, assert_same_end, make_environment, run, strike
from launching import shared_folder

SHORT = {"digits, device": 2}
LONG = {"digits, device": 12, "AlexNet, host": 5, "AlexNet, stream": 5, "study": 6, "two processes": 4}


def struck(tmp_path_factory, tmp_path, name, strikes, seed):
    case, env = CASES[name], make_environment(shared_folder(tmp_path_factory, "faults-cache"))
    folder = tmp_path / "whole"
    run(case, env, folder)
    whole = run(case, env, tmp_path / "warm")  # its programs are compiled
    draw, rounds, left = random.Random(seed), 0, strikes
    while left:
        place = tmp_path / f"run-{rounds}"
        for _ in range(min(left, draw.randint(2, 5))):
            number = draw.choice([signal.SIGKILL, signal.SIGKILL, *ASKING])
            strike(case, env, place, number, draw, whole)
            left -= 1
        run(case, env, place)
        assert_same_end(case, place, folder)
        rounds += 1


@pytest.mark.slow
@pytest.mark.parametrize("name", SHORT)
def test_a_command_that_was_struck_ends_as_one_that_was_not(tmp_path_factory, tmp_path, name):
    struck(tmp_path_factory, tmp_path, name, SHORT[name], seed=0)


@pytest.mark.slow
@pytest.mark.parametrize("name", LONG)
def test_the_same_more_often(tmp_path_factory, tmp_path, name):
    struck(tmp_path_factory, tmp_path, name, LONG[name], seed=1)
