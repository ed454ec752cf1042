"""How many native spectrum files a second does one core read?

    python benchmarks/ingest.py FOLDER [--limit 300] [--survey lamost_lrs]

Prints files a second of processor time; the first few files warm up imports and the file cache.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

from spectrolabe import surveys


def main() -> None:
    """Read every file of a folder once and print the rate."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--limit", type=int, default=300)
    parser.add_argument("--survey", default=None, help="recognised from the content by default")
    options = parser.parse_args()
    files = sorted(path for path in options.folder.iterdir() if path.is_file())[: options.limit]
    if not files:
        parser.error(f"no files in {options.folder}")
    for path in files[:10]:
        surveys.read(path, options.survey)
    start, wall, spectra = time.process_time(), time.perf_counter(), 0
    for path in files:
        spectra += len(surveys.read(path, options.survey))
    seconds, wall = time.process_time() - start, time.perf_counter() - wall
    print(f"{len(files)} files, {spectra} spectra: {len(files) / seconds:.0f} files/s of one core")
    print(f"{seconds / len(files) * 1e3:.1f} ms of processor time a file, {wall:.1f} s in all")


if __name__ == "__main__":
    main()
