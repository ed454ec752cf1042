"""A synthetic sky from files to a validated catalogue, ten and a hundred times as large.

    python benchmarks/scale.py WORK [--largest] [--output docs/results]

Each step is a command of its own, with one thread in each process: `simulate`, `predict` of the
files that it wrote, in one process and by two workers that may be killed, and `validate`. A size
that is measured is kept in WORK, and the page is written of all that are there.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from pages import remarks, table, write_page
from spectrolabe.catalogue import read_catalogue
from spectrolabe.inference.inputs import LARGEST as LARGEST_SHARD
from spectrolabe.inference.inputs import MANY
from spectrolabe.surveys.files import read_table

__all__ = ["main"]

SURVEYS = {  # spectra of each, without the catalogue of labels beside them
    "apogee": "stars",
    "desi": "[0-9]*",
    "gaia_rvs": "RVS*",
    "lamost_lrs": "*/",
}
OTHERS = ("galah", "sdss_boss")
SIZES, LARGEST = (256, 2560), 25_600  # stars of the sky; four spectra of each
GOAL, WORKERS = 10_000_000, 2
SHARD = 128  # files, of predict
PATHS = {"one process": [], "2 workers": ["--scheduler", "local", "--workers", str(WORKERS)]}
TRIALS = ("worker", "worker", "command", "command")  # what is killed
LOOK = 0.2  # seconds between two looks at the memory
KEPT = "created", "command"  # of the provenance: other in each run


def simulated(work: Path, stars: int) -> dict[str, float]:
    """Make a synthetic sky of four surveys; return what that took."""
    shares = [f"surveys.{name}.share=0" for name in OTHERS]
    groups = [
        f"clusters.count={stars // 256}",
        "clusters.members=12",
        f"binaries.count={stars // 32}",
    ]
    settings = [f"population.stars={stars}", *groups, *shares]
    words = ["simulate", "configs/sky.toml", *settings, "--output", str(sky_of(work, stars))]
    return run([*words, "--workers", str(WORKERS)])


def sky_of(work: Path, stars: int) -> Path:
    """Return the folder of a sky."""
    return work / f"sky-{stars}"


def spectra_of(work: Path, stars: int) -> list[str]:
    """Return the inputs of predict."""
    sky = sky_of(work, stars)
    return [str(path) for name, glob in SURVEYS.items() for path in sorted((sky / name).glob(glob))]


def children(pid: int) -> Iterator[int]:
    """Yield all processes below one."""
    for task in Path(f"/proc/{pid}/task").glob("*/children"):
        for child in task.read_text().split():
            yield int(child)
            yield from children(int(child))


def memory(pid: int) -> float:
    """Return the memory of a process that is its own, not mapped from files, in GB."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next((float(s.split()[1]) for s in lines if s.startswith("RssAnon")), 0.0) / 1e6


def processor(pid: int) -> float:
    """Return the processor time of a process so far, in s."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def run(
    words: list[str],
    output: Path | None = None,
    kill: Callable[[int, int], bool] = lambda command, parts: True,
) -> dict[str, float]:
    """Run a command; return seconds, and peak memory of command and workers in GB.

    ``kill`` is called with the command and the number of parts of the output until it says that it
    is done.
    """
    code = "import sys; from spectrolabe.cli import main; sys.argv = sys.argv[1:]; main()"
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    begin, first, last = time.monotonic(), 0.0, 0.0
    process = subprocess.Popen([sys.executable, "-c", code, "spectrolabe", *words], env=environment)
    most: dict[int, float] = {}
    worked: dict[int, float] = {}
    parts, killed = 0, False
    while process.poll() is None:
        try:
            for pid in (process.pid, *children(process.pid)):
                most[pid] = max(most.get(pid, 0.0), memory(pid))
                worked[pid] = processor(pid)
        except OSError:
            pass  # one that has just ended
        now = parts_of(output)
        if now > parts:
            parts, last = now, time.monotonic() - begin
            first = first or last
        killed = killed or kill(process.pid, parts)
        time.sleep(LOOK)
    return {
        "seconds": time.monotonic() - begin,
        "processor": sum(worked.values()),
        "before the first part": first,
        "after the last part": time.monotonic() - begin - last,
        "parts": float(parts),
        "command": most.pop(process.pid, 0.0),
        "worker": max(most.values(), default=0.0),
        "exit": float(process.returncode),
    }


def parts_of(output: Path | None) -> int:
    """Return how many parts of a catalogue are there."""
    return 0 if output is None else len(list(parts_folder(output).glob("part-*")))


def parts_folder(output: Path) -> Path:
    """Return the folder of the parts of a catalogue."""
    return output.with_name(f"{output.name}.parts")


def catalogue_of(work: Path, stars: int, name: str) -> Path:
    """Return the catalogue that one way of running predict writes."""
    return work / f"{name.replace(' ', '-')}-{stars}.parquet"


def predict(work: Path, stars: int, name: str) -> dict[str, float]:
    """Run predict one way."""
    output = catalogue_of(work, stars, name)
    shutil.rmtree(parts_folder(output), ignore_errors=True)  # of a run that was interrupted
    return run(predict_words(work, stars, output, name), output)


def predict_words(work: Path, stars: int, output: Path, name: str) -> list[str]:
    """Return the command."""
    return ["predict", "default", *spectra_of(work, stars), "-o", str(output), *PATHS[name]]


def measure(work: Path, stars: int) -> dict[str, Any]:
    """Run one size from the sky to the report; the largest only by workers."""
    found: dict[str, Any] = {"stars": stars, "simulate": simulated(work, stars)}
    sky = sky_of(work, stars)
    truth = read_table(sky / "truth.parquet")
    found["spectra"] = len(truth)
    found["surveys"] = {name: int((truth["survey"] == name).sum()) for name in SURVEYS}
    found["files"] = sum(f.stat().st_size for f in sky.rglob("*") if f.is_file())
    paths = [name for name in PATHS if stars < LARGEST or name == "2 workers"]
    for name in paths:
        found[name] = predict(work, stars, name)
        print(stars, name, found[name], flush=True)
        if found[name]["exit"]:
            raise SystemExit(f"{name}: exit {found[name]['exit']}")
    outputs = [catalogue_of(work, stars, name) for name in paths]
    found["identical"] = identical(outputs[0], outputs[-1])
    found["rows"] = len(read_catalogue(outputs[-1], correlations=False))
    found["catalogue"] = outputs[-1].stat().st_size
    report = work / f"report-{stars}.html"
    words = ["validate", str(outputs[-1]), "--truth", str(sky / "truth.parquet"), "-o", str(report)]
    found["validate"] = run(words)
    return found


def identical(one: Path, other: Path) -> bool:
    """Tell whether two catalogues have the same columns and rows, to the bit."""
    a, b = read_catalogue(one), read_catalogue(other)
    if a.colnames != b.colnames or len(a) != len(b):
        return False
    known = [{k: v for k, v in t.meta["provenance"].items() if k not in KEPT} for t in (a, b)]
    exact = (a[c].dtype == b[c].dtype and a[c].tobytes() == b[c].tobytes() for c in a.colnames)
    return known[0] == known[1] and all(exact)


def trial(work: Path, stars: int, targets: list[str], rng: random.Random) -> dict[str, Any]:
    """Kill workers or the command with SIGKILL somewhere in the middle, and run again."""
    output = work / "killed.parquet"
    parts = parts_folder(output)
    shutil.rmtree(parts, ignore_errors=True)
    reference = catalogue_of(work, stars, "2 workers")
    expected = json.loads(size_file(work, stars).read_text("utf-8"))["2 workers"]["parts"]
    after = sorted(rng.randint(1, max(1, int(expected) - 2)) for _ in targets)
    left = list(zip(after, targets, strict=True))

    def kill(command: int, done: int) -> bool:
        if done < left[0][0]:
            return False
        time.sleep(rng.uniform(0.0, 2.0))
        target = left.pop(0)[1]
        if target == "command":
            os.kill(command, signal.SIGKILL)
            return True
        workers = sorted(children(command), key=memory)[-WORKERS:]  # those with a model
        os.kill(rng.choice(workers), signal.SIGKILL)
        return not left

    words = predict_words(work, stars, output, "2 workers")
    found = run(words, output, kill)
    kept = parts_of(output)
    again = run(words, output)["seconds"] if "command" in targets else 0.0
    return {
        "stars": stars,
        "target": ", then the ".join(targets),
        "after": ", ".join(map(str, after)),
        "kept": kept if "command" in targets else None,
        "seconds": found["seconds"] + again,
        "identical": identical(output, reference),
    }


def size_file(work: Path, stars: int) -> Path:
    """Return where a size is kept."""
    return work / f"size-{stars}.json"


def page(measured: list[dict[str, Any]], trials: list[dict[str, Any]], size: int) -> list[str]:
    """Return the page."""
    same = "identical to the bit" if all(f["identical"] for f in measured) else "NOT identical"
    sections = [
        f"""# From a thousand stars to ten million

```
python benchmarks/scale.py WORK --largest
```

`spectrolabe predict default` of a store, from the start of the command to the written Parquet
catalogue; in one process, and on a local cluster of {WORKERS} workers
([cluster.md](../cluster.md)). One thread in each process; a shared virtual machine of two
hyperthreads of one core, so that two workers cannot be twice as fast as one process.

The stars are simulated ones (`spectrolabe simulate`) of {", ".join(SURVEYS)}, a quarter
each; a star of DESI has three spectra, of three arms. Some hundred of them are repeated under new
names until there are enough: the same flux, read from other places of the disk. Memory is what a
process has for itself; pages of the store that it has mapped, which the system takes back when it
needs them, are not counted.""",
        of_sizes(measured),
        f"The catalogues of one process and of {WORKERS} workers are {same}.",
        remarks("sizes"),
    ]
    if len(measured) > 1:
        sections += ["## What ten times as many cost", "Each number is a ratio.", growth(measured)]
    return [
        *sections,
        remarks("growth"),
        f"""## Killed

{WORKERS} workers and {size:,} stars. After some parts of the catalogue are there, a process is
killed with SIGKILL; where it is the command, the same command is given again.""",
        of_trials(trials),
        remarks("killed"),
        projection(measured),
        remarks("projection"),
    ]


def of_sizes(measured: list[dict[str, Any]]) -> str:
    """Return the table of all runs."""
    head = [
        "stars",
        "run",
        "time [s]",
        "processor time of all [s]",
        "stars/s",
        "before the first part [s]",
    ]
    head += ["after the last part [s]", "memory of the command [GB]", "of the largest worker [GB]"]
    rows = []
    for found in measured:
        for name in PATHS:
            one = found[name]
            cells = [
                f"{found['stars']:,}",
                name,
                f"{one['seconds']:.0f}",
                f"{one['processor']:.0f}",
                f"{rate(found, name):.1f}",
            ]
            cells += [f"{one[key]:.1f}" for key in ("before the first part", "after the last part")]
            cells += [f"{one['command']:.2f}", f"{one['worker']:.2f}" if one["worker"] else "–"]
            rows.append(cells)
    return table(head, rows)


def rate(found: dict[str, Any], name: str) -> float:
    """Return stars a second from the first part to the last."""
    one = found[name]
    between = one["seconds"] - one["before the first part"] - one["after the last part"]
    return float((found["stars"] - SHARD * found["stars"] / found["spectra"]) / between)


def growth(measured: list[dict[str, Any]]) -> str:
    """Return the table of ratios."""
    keys = ("seconds", "processor", "after the last part", "command", "worker")
    rows = []
    for small, large in itertools.pairwise(measured):
        for name in PATHS:
            a, b = small[name], large[name]
            ratio = [f"{b[key] / a[key]:.2f}" if a[key] else "–" for key in keys]
            rows.append([f"{small['stars']:,} to {large['stars']:,}", name, *ratio])
    head = [
        "stars",
        "run",
        "time",
        "processor time",
        "after the last part",
        "memory of the command",
    ]
    return table([*head, "of the largest worker"], rows)


def of_trials(trials: list[dict[str, Any]]) -> str:
    """Return the table of what was killed."""
    head = ["trial", "killed", "when so many parts were there", "parts kept", "time in all [s]"]
    rows = []
    for n, one in enumerate(trials, start=1):
        kept = f"{one['kept']}" if one["target"] == "command" else "–"
        same = "yes" if one["identical"] else "NO"
        rows.append([f"{n}", one["target"], f"{one['after']}", kept, f"{one['seconds']:.0f}", same])
    return table([*head, "identical to the serial catalogue"], rows)


def projection(measured: list[dict[str, Any]]) -> str:
    """Return what follows for ten million stars."""
    base = measured[-1]
    alone, both = rate(base, "one process"), rate(base, "2 workers")
    command, worker = (base["2 workers"][key] for key in ("command", "worker"))
    merge = base["2 workers"]["after the last part"] / (base["spectra"] / SHARD)
    slope, known = 0.0, " (one size cannot tell)"
    end = "with the end of the workers, as one size cannot tell them apart; "
    if len(measured) > 1:
        small = measured[-2]
        slope = (command - small["2 workers"]["command"]) / (base["stars"] - small["stars"])
        known = end = ""
        later = base["2 workers"]["after the last part"] - small["2 workers"]["after the last part"]
        merge = SHARD * later / (base["spectra"] - small["spectra"])
    spectra = GOAL * base["spectra"] / base["stars"]
    shards = spectra / min(max(SHARD, spectra / MANY), LARGEST_SHARD * SHARD)
    hours = GOAL / alone / 3600.0
    more = LARGEST_SHARD * SHARD * base["store"] * base["stars"] / base["spectra"] / 1e9
    return f"""## Projection to ten million

From the numbers of {base["stars"]:,} stars:

- {GOAL / both / 3600:,.0f} hours on this machine with {WORKERS} workers. {hours:,.0f} hours of one
  such thread alone, so {hours / 100:,.1f} hours of 100, if the rate of each does not fall with
  their number: nothing passes between workers, the scheduler hears of
  {100 * alone * shards / GOAL:.1f} shards a second, and the disk must give
  {100 * alone * base["store"] / 1e6:,.0f} MB/s.
- {GOAL * base["store"] / 1e12:.1f} TB of spectra in stores; {GOAL * base["row"] / 1e9:.0f} GB of
  catalogue, twice while parts are merged, in {shards:,.0f} parts.
- {merge * shards / 60:.0f} minutes from the last part to the end, at {merge:.2f} s for each part;
  {end}a part of 680 rows takes as long to merge as one of 85.
- {command + max(slope, 0.0) * GOAL:.1f} GB for the command: what it has here, and
  {max(slope, 0.0) * 1e9:.0f} bytes for each star more{known}. {worker:.1f} GB for each worker, as
  here: it holds a model and a shard, of which the larger ones have {more:.2f} GB of spectra."""


def kept(path: Path, make: Callable[[], Any]) -> Any:
    """Return what a file says, or make it."""
    if not path.exists():
        path.write_text(json.dumps(make()), encoding="utf-8")
    return json.loads(path.read_text(encoding="utf-8"))


def main() -> None:
    """Run all, and write the page."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("work", type=Path)
    parser.add_argument("--largest", action="store_true", help=f"also {LARGEST:,}: 16 GB, hours")
    parser.add_argument("--output", type=Path, default=Path("docs/results"))
    arguments = parser.parse_args()
    work: Path = arguments.work.absolute()
    work.mkdir(parents=True, exist_ok=True)
    sizes = [*SIZES, LARGEST] if arguments.largest else list(SIZES)
    for size in sizes:
        kept(size_file(work, size), lambda size=size: measure(work, size))
    rng = random.Random(1)
    plan = [(SIZES[0], [target]) for target in TRIALS]
    if arguments.largest:
        plan.append((LARGEST, ["worker", "command"]))
    trials = [
        kept(work / f"trial-{i}.json", lambda one=one: trial(work, *one, rng))
        for i, one in enumerate(plan, start=1)
    ]
    measured = [json.loads(path.read_text("utf-8")) for path in work.glob("size-*.json")]
    measured.sort(key=lambda found: found["stars"])
    write_page(arguments.output / "scale.md", page(measured, trials))


if __name__ == "__main__":
    main()
