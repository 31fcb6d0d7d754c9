"""A hostile corpus: thousands of damaged and odd files of every kind that is read, from a seed.

    python tests/benchmarks/bench_hostile.py [--count N] [--first-seed N] [--seed N] [--read N]

Gives each to `predict`, `preprocess`, `metrics` or `register`, counts what became of them, and tells each
fault with its seed: a traceback, a hang (30 s), a crash, over 4 GiB of memory, an output after a failure or
none after a success, and damage in a stream with a checksum that was read without a word.
`--read 10` gives only every tenth to a command, the others are read alone; `--seed` tries one, in this
process. Exit code 1 if there was a fault.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))
from tests.core.scans.hostile import make_whole, trial
from tests.core.scans.hostile_pool import run_trials


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--count", type=int, default=2000)
    parser.add_argument("--first-seed", type=int, default=0)
    parser.add_argument("--seed", type=int)
    parser.add_argument("--read", type=int, default=1)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        if options.seed is not None:
            make_whole(Path(folder) / "whole")
            (Path(folder) / "one").mkdir()
            print(trial(options.seed, Path(folder) / "whole", Path(folder) / "one"))
            return 0
        started = time.monotonic()
        seeds = range(options.first_seed, options.first_seed + options.count)
        counts: Counter[str] = Counter()
        kinds: dict[str, Counter[str]] = {}
        faults = 0
        for verdict in run_trials(seeds, Path(folder), options.read):
            counts[verdict.outcome] += 1
            kinds.setdefault(verdict.kind, Counter())[verdict.outcome] += 1
            if verdict.is_fault:
                faults += 1
                print(f"{verdict.outcome}: seed {verdict.seed}, {verdict.kind}, {verdict.change}", flush=True)
                print(f"    {verdict.detail[-1800:]}", flush=True)
        for kind, found in sorted(kinds.items()):
            print(f"{kind:24}{dict(found.most_common())}")
        print(f"{options.count} files, {dict(counts.most_common())}, {time.monotonic() - started:.0f} s")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
