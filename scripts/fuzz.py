"""Give damaged files to every reader: ``python scripts/fuzz.py --seconds 600``.

A reader must return what keeps its promises or raise an `InputError` that names the file, within
seconds and without much memory. What does something else is printed as a recipe, which
``tests/fuzz/test_regressions.py`` takes. The recipe in hand is always in ``--log``: if a library
crashes the process, it is that of the input at which it did.
"""

from __future__ import annotations

import argparse
import faulthandler
import random
import sys
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from tests.fuzz.readers import READERS
from tests.fuzz.trial import FuzzError, Recipe, attempt, collect, files_of, random_recipe

KEPT = 5  # recipes printed for each kind of failure


@dataclass
class Tally:
    """What happened to the inputs of one reader."""

    tried: int = 0
    refused: int = 0
    failures: Counter[str] = field(default_factory=Counter)
    slowest: float = 0.0


def main() -> int:
    """Run, print the table, and return 1 if a reader failed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--reader", choices=sorted(READERS), action="append")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--log", type=Path, default=Path("fuzz-recipe.txt"))
    options = parser.parse_args()
    faulthandler.enable()
    names = options.reader or list(READERS)
    tallies = {name: Tally() for name in names}
    for name in names:
        READERS[name].originals()
    rng, share = random.Random(options.seed), options.seconds / len(names)
    for name in names:
        end = time.monotonic() + share
        while time.monotonic() < end:
            _one(name, tallies[name], rng, options.log)
        collect()
    options.log.unlink(missing_ok=True)
    _print(tallies)
    return int(any(one.failures for one in tallies.values()))


def _one(name: str, tally: Tally, rng: random.Random, log: Path) -> None:
    recipe: Recipe = random_recipe(name, rng)
    log.write_text(f"{recipe}\n")
    files = files_of(recipe)
    begin = time.monotonic()
    tally.tried += 1
    try:
        tally.refused += attempt(name, files) != ""
    except FuzzError as failure:
        kind = str(failure)[:100]
        tally.failures[kind] += 1
        if tally.failures[kind] <= KEPT:
            print(f"{failure}\n    {recipe}", flush=True)
    tally.slowest = max(tally.slowest, time.monotonic() - begin)


def _print(tallies: dict[str, Tally]) -> None:
    print("| reader | inputs | refused | read | failures | slowest |")
    print("|---|---|---|---|---|---|")
    for name, one in tallies.items():
        failed = sum(one.failures.values())
        read = one.tried - one.refused - failed
        print(f"| {name} | {one.tried} | {one.refused} | {read} | {failed} | {one.slowest:.2f} s |")
    total = sum(one.tried for one in tallies.values())
    print(f"\n{total} inputs, {sum(sum(t.failures.values()) for t in tallies.values())} failures")


if __name__ == "__main__":
    sys.exit(main())
