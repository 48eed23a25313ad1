"""The long trial: hundreds of kills, and thousands of steps in each placement with the memory watched.

    make soak

It prints the tables of docs/reliability.md.
"""

import argparse
import collections
import platform
import random
import signal
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "tests"), str(ROOT / "tests" / "faults")]

from harness import ASKING, CASES, assert_same_end, make_case, make_environment, run, start, strike  # noqa: E402

SHARES = {"digits, device": 0.4, "AlexNet, host": 0.15, "AlexNet, stream": 0.15, "study": 0.15, "two processes": 0.15}
ROUND = 8  # strikes of one workdir, at most


def kills(env, base: Path, count: int, seed: int, cases: list[str]) -> None:
    """Strikes some cases, each until it has had its share; each workdir is compared with an uninterrupted one."""
    stages: collections.Counter = collections.Counter()
    print("| case | strikes | while it ran | of these KILL, TERM, INT, HUP | workdirs | all equal |")
    print("|---|---|---|---|---|---|")
    for name in cases:
        share = SHARES[name]
        case, draw, left, rounds, ran = CASES[name], random.Random(f"{seed} {name}"), round(count * share), 0, 0
        numbers: collections.Counter = collections.Counter()
        whole = base / f"{name} whole"
        run(case, env, whole)
        seconds = run(case, env, base / f"{name} warm")
        strikes = left
        while left:
            place = base / f"{name} {rounds}"
            for _ in range(min(left, draw.randint(2, ROUND))):
                number = draw.choice([signal.SIGKILL, signal.SIGKILL, signal.SIGKILL, *ASKING])
                stage, struck = strike(case, env, place, number, draw, seconds)
                stages[stage] += struck
                numbers[number] += struck
                ran += struck
                left -= 1
            run(case, env, place)
            assert_same_end(case, place, whole)
            rounds += 1
        each = ", ".join(str(numbers[number]) for number in (signal.SIGKILL, *ASKING))
        print(f"| {name} | {strikes} | {ran} | {each} | {rounds} | yes |", flush=True)
    print("\nstruck while it ran: " + ", ".join(f"{stage} {number}" for stage, number in stages.most_common()) + "\n")


def memory(env, base: Path, steps: int) -> None:
    """Trains for many steps in each placement; the resident memory after a quarter of the time and later."""
    print("| placement | steps | seconds | resident, MiB: after a quarter | at the end | at most |")
    print("|---|---|---|---|---|---|")
    for placement in ("device", "host", "stream"):
        case = make_case(
            "lenet_digits", data__placement=placement, train__duration=f"{steps} steps", log__every="500 steps",
            evaluation__every="1000 steps", checkpoint__every="1000 steps",
        )  # fmt: skip
        case = case._replace(words=(*case.words, "--noreport"))  # which takes memory of its own
        began, seen = time.monotonic(), []
        (process,) = start(case, env, base / f"memory {placement}")
        while process.poll() is None:
            seen.append(_resident(process.pid))
            time.sleep(0.25)
        assert process.returncode == 0
        seen = [size for size in seen if size]
        early, last = seen[len(seen) // 4], sorted(seen[-12:-2])[5]
        seconds = time.monotonic() - began
        print(f"| {placement} | {steps:,} | {seconds:.0f} | {early:.0f} | {last:.0f} | {max(seen):.0f} |", flush=True)


def _resident(pid):
    """MiB; 0 where the process has just ended."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) / 1024 for line in lines if line.startswith("VmRSS")), 0)


def main():
    for number in ASKING:  # which a shell's background jobs and nohup ignore
        signal.signal(number, signal.SIG_DFL)
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=300, help="default: %(default)s")
    parser.add_argument("--steps", type=int, default=20_000, help="of each placement; default: %(default)s")
    parser.add_argument("--case", action="append", choices=SHARES, help="only this one; may be repeated")
    parser.add_argument("--seed", type=int, default=0, help="of the chance; default: %(default)s")
    asked = parser.parse_args()
    print(f"Python {platform.python_version()}, {platform.machine()}\n", flush=True)
    with tempfile.TemporaryDirectory() as base:
        cache = Path(base) / "cache"
        cache.mkdir()
        env = make_environment(cache)
        if asked.steps:
            memory(env, Path(base), asked.steps)
            print()
        if asked.kills:
            kills(env, Path(base), asked.kills, asked.seed, asked.case or [*SHARES])


if __name__ == "__main__":
    main()
