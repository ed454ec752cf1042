"""Ten million rows corrected and crossmatched: time and memory.

    python benchmarks/homogenise_scale.py WORK [--rows 10000000] [--output docs/results]

Each run is a process of its own on made-up tables; its memory is the largest that it ever had.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from homogenise_simulated import NAMES, bias, truth
from pages import remarks, table, write_page

__all__ = ["main"]

PIECE, SHARED = 500_000, 0.05  # rows at a time; share of the stars that the reference has
RUNS = {
    "polynomial, by identifiers": [],
    "polynomial, by position": ["--sky", "1"],
    "polynomial, true scale": ["--true-scale"],
    "spline, by identifiers": ["--method", "spline"],
    "xgboost, by identifiers": ["--method", "xgboost"],
}


def make(work: Path, rows: int) -> tuple[Path, Path]:
    """Write the tables, unless they are there."""
    target, reference = work / f"target-{rows}.parquet", work / f"reference-{rows}.parquet"
    if target.exists() and reference.exists():
        return target, reference
    work.mkdir(parents=True, exist_ok=True)
    rng, writers = np.random.default_rng(1), {}
    for begin in range(0, rows, PIECE):
        count = min(PIECE, rows - begin)
        true = truth(rng, count)
        place = {"star_id": np.arange(begin, begin + count).astype(str)}
        place["ra"] = rng.uniform(0.0, 360.0, count)
        place["dec"] = np.rad2deg(np.arcsin(rng.uniform(-1.0, 1.0, count)))
        chosen = np.flatnonzero(rng.random(count) < SHARED)
        size = np.array([50.0, 0.1, 0.06])
        seen = true + bias(true, "b") + size * rng.normal(size=true.shape)
        other = true[chosen] + 0.5 * size * rng.normal(size=(len(chosen), 3))
        for path, values, here in ((target, seen, slice(None)), (reference, other, chosen)):
            columns = {key: value[here] for key, value in place.items()}
            for j, name in enumerate(NAMES):
                columns[name] = values[:, j].astype("f4")
                columns[f"e_{name}"] = np.full(len(values), size[j], "f4")
            piece = pa.table(columns)
            if path not in writers:
                writers[path] = pq.ParquetWriter(path, piece.schema)
            writers[path].write_table(piece)
    for writer in writers.values():
        writer.close()
    return target, reference


def run(target: Path, reference: Path, options: list[str], output: Path) -> tuple[float, float]:
    """Return seconds and GB of one command."""
    command = ["spectrolabe", "homogenise", str(target), str(reference), "-o", str(output)]
    code = "import sys; from spectrolabe.cli import main; sys.argv = sys.argv[1:]; main();"
    begin = time.monotonic()
    process = subprocess.Popen([sys.executable, "-c", code, *command, *options])
    _, status, used = os.wait4(process.pid, 0)
    if status:
        raise SystemExit(f"{' '.join(command)}: exit {status}")
    return time.monotonic() - begin, used.ru_maxrss / 1e6


def main() -> None:
    """Run all, and write the page."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("work", type=Path)
    parser.add_argument("--rows", type=int, default=10_000_000)
    parser.add_argument("--output", type=Path, default=Path("docs/results"))
    arguments = parser.parse_args()
    cells = []
    for rows in (arguments.rows // 10, arguments.rows):
        target, reference = make(arguments.work, rows)
        shared = pq.read_metadata(reference).num_rows
        for name, options in RUNS.items():
            seconds, memory = run(target, reference, options, arguments.work / "out.parquet")
            cells.append([f"{rows:,}", f"{shared:,}", name, f"{seconds:.0f}",
                          f"{rows / seconds:,.0f}", f"{memory:.1f}"])  # fmt: skip
            print(*cells[-1], flush=True)
    head = ["rows", "stars of the reference", "run", "time [s]", "rows/s", "memory [GB]"]
    write_page(
        arguments.output / "homogenise_scale.md",
        [
            f"""# Homogenising ten million rows

```
python benchmarks/homogenise_scale.py WORK
```

`spectrolabe homogenise` from the start of the process to the written Parquet file: reading,
crossmatch, learning three labels, correcting all rows. Two cores.

{table(head, cells)}

{remarks("summary")}"""
        ],
    )


if __name__ == "__main__":
    main()
