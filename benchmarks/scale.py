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
from spectrolabe.catalogue.parts import GROUP
from spectrolabe.inference.inputs import LARGEST as LARGEST_SHARD
from spectrolabe.inference.inputs import MANY, Selection, Sources
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
REPORTED = ("teff", "logg", "fe_h", "mg_fe")
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
    found["rows"] = len(read_catalogue(outputs[-1], without=("rho_",)))
    found["catalogue"] = outputs[-1].stat().st_size
    report = work / f"report-{stars}.html"
    tables = [f"--{kind}={sky / 'truth.parquet'}" for kind in ("truth", "clusters", "binaries")]
    found["validate"] = run(["validate", str(outputs[-1]), *tables, "-o", str(report)])
    numbers = json.loads(report.with_suffix(".json").read_text("utf-8"))["recovered"]
    found["report"] = {
        survey: [one for one in rows if one["label"] in REPORTED]
        for survey, rows in numbers.items()
    }
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


def page(
    measured: list[dict[str, Any]], trials: list[dict[str, Any]], named: dict[str, float]
) -> list[str]:
    """Return the page."""
    two = [found for found in measured if "one process" in found]
    same = "identical to the bit" if all(f["identical"] for f in two) else "NOT identical"
    return [
        f"""# From files to ten million spectra

```
python benchmarks/scale.py WORK --largest
```

A synthetic sky of four surveys ({", ".join(SURVEYS)}), from the first star
to the [report](../validate.md): `simulate` writes the files that the surveys would publish,
`predict default` reads them and writes a catalogue, in one process and on a local cluster of
{WORKERS} workers ([cluster.md](../cluster.md)), and `validate` compares it with the truth. Each is
the command that a user would give, with one thread in each process; no two stars are the same. A
shared virtual machine of two hyperthreads of one core, so that two workers cannot be twice as fast
as one process.

Spectra are what the readers return: visits and combined spectra, and each arm of DESI. A row of the
catalogue is a star in a file. Memory is what a process has for itself; of `simulate` and `predict`
with workers it is that of the largest process.""",
        of_skies(measured),
        remarks("skies"),
        "## Steps",
        of_steps(measured),
        f"The catalogues of one process and of {WORKERS} workers are {same} where both were made.",
        remarks("sizes"),
        "## What ten times as many cost",
        "Each number is a ratio.",
        growth(measured),
        remarks("growth"),
        f"""## Killed

With {WORKERS} workers. After some parts of the catalogue are there, a process is killed with
SIGKILL; where it is the command, the same command is given again.""",
        of_trials(trials),
        remarks("killed"),
        "## The report of the largest run",
        of_report(measured[-1]),
        remarks("report"),
        projection(measured, named),
        remarks("projection"),
    ]


def of_skies(measured: list[dict[str, Any]]) -> str:
    """Return the table of what there is."""
    head = ["stars", "spectra", *SURVEYS, "files [GB]", "rows of the catalogue", "catalogue [MB]"]
    rows = [
        [
            f"{found['stars']:,}",
            f"{found['spectra']:,}",
            *(f"{found['surveys'][name]:,}" for name in SURVEYS),
            f"{found['files'] / 1e9:.2f}",
            f"{found['rows']:,}",
            f"{found['catalogue'] / 1e6:.1f}",
        ]
        for found in measured
    ]
    return table(head, rows)


def steps(found: dict[str, Any]) -> list[tuple[str, dict[str, float]]]:
    """Return the commands of a size, in their order, by name."""
    paths = [(f"predict, {name}", found[name]) for name in PATHS if name in found]
    return [("simulate", found["simulate"]), *paths, ("validate", found["validate"])]


def of_steps(measured: list[dict[str, Any]]) -> str:
    """Return the table of all commands."""
    head = ["spectra", "command", "time [s]", "processor time of all [s]", "spectra/s"]
    head += ["before the first part [s]", "after the last part [s]"]
    rows = []
    for found in measured:
        for name, one in steps(found):
            cells = [f"{found['spectra']:,}", name]
            cells += [f"{one['seconds']:.0f}", f"{one['processor']:.0f}"]
            cells.append(f"{found['spectra'] / one['seconds']:.0f}")
            ends = [one["before the first part"], one["after the last part"]]
            cells += [f"{end:.1f}" if one["parts"] else "–" for end in ends]
            cells += [f"{one['command']:.2f}", f"{one['worker']:.2f}" if one["worker"] else "–"]
            rows.append(cells)
    return table([*head, "memory of the command [GB]", "of the largest worker [GB]"], rows)


def rate(found: dict[str, Any], name: str) -> float:
    """Return spectra a second from the first part to the last."""
    one = found[name]
    between = one["seconds"] - one["before the first part"] - one["after the last part"]
    return float(found["spectra"] * (1.0 - 1.0 / one["parts"]) / between)


def growth(measured: list[dict[str, Any]]) -> str:
    """Return the table of ratios."""
    keys = ("seconds", "processor", "after the last part", "command", "worker")
    rows = []
    for small, large in itertools.pairwise(measured):
        before = dict(steps(small))
        for name, b in steps(large):
            a = before[name]
            ratio = [f"{b[key] / a[key]:.2f}" if a[key] else "–" for key in keys]
            if not b["parts"]:
                ratio[2] = "–"
            sizes = f"{small['spectra']:,} to {large['spectra']:,}"
            rows.append([sizes, name, *ratio])
    head = [
        "spectra",
        "command",
        "time",
        "processor time",
        "after the last part",
        "memory of the command",
    ]
    return table([*head, "of the largest worker"], rows)


def of_trials(trials: list[dict[str, Any]]) -> str:
    """Return the table of what was killed."""
    head = ["stars", "killed", "when so many parts were there", "parts kept", "time in all [s]"]
    rows = []
    for one in trials:
        kept = "–" if one["kept"] is None else f"{one['kept']}"
        same = "yes" if one["identical"] else "NO"
        rows.append(
            [f"{one['stars']:,}", one["target"], one["after"], kept, f"{one['seconds']:.0f}", same]
        )
    return table([*head, "identical to the catalogue of an undisturbed run"], rows)


def of_report(found: dict[str, Any]) -> str:
    """Return the main labels of the report, by survey."""
    rows = []
    for survey, labels in found["report"].items():
        for one in labels:
            cells = [survey, f"{one['label']} [{one['unit']}]", f"{one['rows']:,}"]
            cells += [f"{one[key]:.3g}" for key in ("bias", "mad", "error")]
            cells += [f"{one['pull_width']:.2f}", f"{100 * one['coverage_68']:.0f} %"]
            rows.append(cells)
    head = ["survey", "label", "rows", "bias", "scatter", "median error", "pull width"]
    return table([*head, "within 1 sigma"], rows)


def names(work: Path, stars: int) -> dict[str, float]:
    """Return how many files a size has, and the bytes of memory that the name of one needs."""
    before = memory(os.getpid())
    sources = Sources(Selection.of(spectra_of(work, stars), None, "file", False, 1), SHARD)
    grown = memory(os.getpid()) - before
    return {"files": float(len(sources.files)), "bytes": 1e9 * grown / len(sources.files)}


def projection(measured: list[dict[str, Any]], named: dict[str, float]) -> str:
    """Return what follows for ten million spectra."""
    base, small = measured[-1], measured[-2]
    name = "2 workers"
    both = rate(base, name)
    alone = rate(next(f for f in reversed(measured) if "one process" in f), "one process")
    command, worker = (base[name][key] for key in ("command", "worker"))
    more = base["spectra"] - small["spectra"]
    merge = (base[name]["after the last part"] - small[name]["after the last part"]) / (
        base[name]["parts"] - small[name]["parts"]
    )
    said = (base["validate"]["command"] - small["validate"]["command"]) / more * GOAL
    rows = GOAL * base["rows"] / base["spectra"]
    shards = rows / min(max(SHARD, rows / MANY), LARGEST_SHARD * SHARD)
    hours = GOAL / alone / 3600.0
    checked = GOAL / base["spectra"] * base["validate"]["seconds"] / 3600.0
    files = base["files"] / base["spectra"]
    name_of_file, files_each = named["bytes"], named["files"] / base["spectra"]
    return f"""## Projection to ten million

Ten million spectra of the same mixture, {rows / 1e6:.1f} million rows, from the numbers of
{base["spectra"]:,}:

- {GOAL / both / 3600:,.0f} hours on this machine with {WORKERS} workers. {hours:,.0f} hours of one
  such thread alone, so {hours / 100:,.1f} hours of 100, if the rate of each does not fall with
  their number: nothing passes between workers, the scheduler hears of
  {100 * alone * shards / GOAL:.1f} shards a second, and the disk must give
  {100 * alone * files / 1e6:,.0f} MB/s.
- {GOAL * files / 1e12:.1f} TB of files; {GOAL / base["spectra"] * base["catalogue"] / 1e9:.0f} GB
  of catalogue, twice while parts are merged, in {shards:,.0f} parts.
- {merge * shards / 60:.0f} minutes to merge them, at {merge:.2f} s for each part.
- {command + name_of_file * files_each * GOAL / 1e9:.1f} GB for the command: what it has here, where
  a whole group of {GROUP:,} rows is merged, and {name_of_file:.0f} bytes for the name of each file;
  no names with a store. {worker:.1f} GB for each worker, as here: it holds a model and a shard.
- {checked:.1f} hours and {said:.0f} GB for `validate` of the whole catalogue, if both grow with it
  as here: more than there is. It would be given a sample."""


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
    named = kept(work / "names.json", lambda: names(work, sizes[-1]))
    write_page(arguments.output / "scale.md", page(measured, trials, named))


if __name__ == "__main__":
    main()
