"""What the command says when something is wrong: every verb, given what it cannot use.

    python benchmarks/errors.py --work WORK

Makes the inputs in WORK (a new folder), runs the verbs, and writes ``errors.md``: what was tried,
the exit code, and what was said. Run again with the same WORK it continues. Ends with exit code 1
if anywhere a traceback was shown, or a case did not leave with the code that it should.
"""

from __future__ import annotations

import argparse
import gzip
import json
import os
import re
import shutil
import signal
import struct
import subprocess
import sys
import time
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from astropy.io import fits

from pages import remarks, table, write_page

ROOT = Path(__file__).parents[1]
COMMAND = Path(sys.executable).with_name("spectrolabe")
LONGEST = 330  # characters of what is said that the page shows
PATIENCE = 300.0  # seconds that a verb has
MAKE = (
    "read",
    "ingest",
    "predict",
    "denoise",
    "fit",
    "validate",
    "simulate",
)  # verbs that make the folder
BRIEF = ("no such file", "a picture named .fits", "half a FITS file")
PLAIN = {"NO_COLOR": "1", "TERM": "dumb", "COLUMNS": "200"}
SKY = ("population.stars=70", "clusters.count=0", "binaries.count=0")
TRAIN = ("data.store=store", 'data.labels=["teff"]', "training.epochs=1")


@dataclass(frozen=True)
class Case:
    """One thing to try.

    Parameters
    ----------
    verb, what : str
        What is run, and what is wrong.
    arguments : sequence of str
        After ``spectrolabe``; paths are relative to WORK.
    code : int
        Exit code that is right.
    way : str
        ``plain``; ``closed`` shuts standard output at the first line; ``interrupt`` sends Ctrl-C
        once `path` is there.
    path : str
    """

    verb: str
    what: str
    arguments: Sequence[str]
    code: int = 1
    way: str = "plain"
    path: str = ""


def png() -> bytes:
    """Return a picture of one pixel."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return (
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        )

    head = struct.pack(">IIBBBBB", 1, 1, 8, 2, 0, 0, 0)
    body = chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(bytes(4))) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + body


def make_inputs(work: Path) -> None:
    """Write a small sky, and everything that is no spectrum."""
    done = spectrolabe(work, ["simulate", str(ROOT / "configs/sky.toml"), *SKY, "-o", "sky"])
    if done.returncode:
        raise SystemExit(done.stderr)
    shutil.copytree(ROOT / "configs", work / "configs")
    source = sorted((work / "sky/lamost_lrs").rglob("spec-*.fits.gz"))[0]
    packed = source.read_bytes()
    plain = gzip.decompress(packed)
    (work / "star.fits").write_bytes(plain)
    (work / "empty.fits").touch()
    (work / "text.fits").write_text("These are my notes of the night.\n")
    (work / "picture.fits").write_bytes(png())
    (work / "cut.fits").write_bytes(plain[: len(plain) // 2])
    (work / "cut.fits.gz").write_bytes(packed[: len(packed) // 2])
    (work / "folder").mkdir()
    (work / "my folder é 星").mkdir()
    (work / "my folder é 星/star ☆.fits").write_bytes(plain)
    fits.PrimaryHDU(np.zeros((50, 50))).writeto(work / "image.fits")
    (work / "unit.csv").write_text(
        "# OBJECT = Sun\n# FRAME = rest\n# MEDIUM = air\n# R = 2000\nwavelength,flux,error\n"
        + "".join(f"{0.5 + 1e-4 * i:.4f},1.0,0.01\n" for i in range(200))
    )
    (work / "labels.csv").write_text("name,Teff\nSun,5772\n")
    (work / "stars.csv").write_text("teff,logg,fe_h,v_micro\n5772,4.44,0.0,one\n")
    (work / "hot.csv").write_text("teff,logg,fe_h,v_micro\n30000,4.44,0.0,1.0\n")
    (work / "not.toml").write_text("training = \n")
    (work / "misspelt.toml").write_text(
        (ROOT / "configs/demo.toml").read_text().replace("epochs", "epoch")
    )
    (work / "sky.toml").write_text(
        (ROOT / "configs/sky.toml").read_text().replace("magnitude =", "magnitudes =")
    )
    (work / "truth.csv").write_text("star_id,teff\nnobody,5000\n")
    for name, arguments in {
        "store": [
            "ingest",
            "lamost_lrs",
            "sky/lamost_lrs",
            "--labels",
            labels(work),
            "-o",
            "store",
        ],
        "catalogue": ["predict", "default", "star.fits", "-o", "catalogue.parquet"],
    }.items():
        done = spectrolabe(work, arguments)
        if done.returncode:
            raise SystemExit(f"{name}: {done.stderr}")


def labels(work: Path) -> str:
    """Return the label catalogue of LAMOST in the sky."""
    return str(next((work / "sky/lamost_lrs").glob("*.fits*")).relative_to(work))


def spectrolabe(work: Path, arguments: Sequence[str]) -> subprocess.CompletedProcess[str]:
    """Run the command to its end."""
    return subprocess.run(
        [str(COMMAND), *arguments], cwd=work, capture_output=True, text=True,
        env={**os.environ, **PLAIN}, timeout=PATIENCE, check=False,
    )  # fmt: skip


def tried(work: Path, case: Case) -> tuple[int, str]:
    """Run a case; return the exit code and all that was said."""
    if case.way == "plain":
        done = spectrolabe(work, case.arguments)
        return done.returncode, done.stderr.strip() or done.stdout
    process = subprocess.Popen(
        [str(COMMAND), *case.arguments], cwd=work, text=True, env={**os.environ, **PLAIN},
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # in the background, too
    )  # fmt: skip
    assert process.stdout is not None
    assert process.stderr is not None
    if case.way == "closed":
        process.stdout.close()
        said = process.stderr.read()
        return process.wait(PATIENCE), said
    end = time.monotonic() + PATIENCE
    while process.poll() is None and time.monotonic() < end and not (work / case.path).exists():
        time.sleep(0.02)
    os.killpg(process.pid, signal.SIGINT)  # as a terminal does: to all processes of the job
    out, said = process.communicate(timeout=PATIENCE)
    return process.returncode, said.strip() or out


def bad_files() -> dict[str, tuple[str, ...]]:
    """What is given in place of a spectrum."""
    return {
        "no such file": ("absent.fits",),
        "a folder without spectra": ("folder",),
        "a glob that matches nothing": ("nothing-*.fits",),
        "an empty file": ("empty.fits",),
        "a text named .fits": ("text.fits",),
        "a picture named .fits": ("picture.fits",),
        "half a FITS file": ("cut.fits",),
        "half a gzip file": ("cut.fits.gz",),
        "a FITS file without spectra": ("image.fits",),
        "a wrong unit (wavelengths in micron)": ("unit.csv",),
    }


def cases(work: Path) -> list[Case]:
    """Everything that is tried."""
    readers = {
        "read": (["read"], []),
        "ingest": (["ingest", "lamost_lrs"], ["-o", "new-store"]),
        "predict": (["predict", "default"], ["-o", "new.parquet"]),
        "denoise": (["denoise", "default"], ["-o", "new-folder"]),
        "fit": (["fit", "default"], ["-o", "new.parquet"]),
    }
    found = [
        Case(verb, what, [*begin, *given, *end])
        for verb, (begin, end) in readers.items()
        for what, given in bad_files().items()
        if verb not in ("denoise", "fit") or what in BRIEF  # they read as `predict` does
    ]
    for verb, (begin, end) in readers.items():
        found.append(Case(verb, "an unknown survey", _survey(verb, begin, end)))
        spaces = [*begin, "my folder é 星", *_outputs(end, "my folder é 星")]
        found.append(Case(verb, "spaces and letters é 星 in paths", spaces, 0))
    found += outputs() + names() + configurations() + tables(work) + endings()
    return found


def _survey(verb: str, begin: list[str], end: list[str]) -> list[str]:
    if verb == "ingest":
        return ["ingest", "lamost_lsr", "star.fits", *end]
    return [*begin, "star.fits", *end, "--survey", "lamost_lsr"]


def _outputs(end: list[str], folder: str) -> list[str]:
    return [end[0], f"{folder}/{end[1]}"] if end else ["--plot", f"{folder}/a figure.png"]


def outputs() -> list[Case]:
    """Places where nothing can be written."""
    verbs = {
        "read": (["read", "star.fits", "--plot"], "x.png"),
        "ingest": (["ingest", "lamost_lrs", "star.fits", "--keep-unlabelled", "-o"], ""),
        "predict": (["predict", "default", "star.fits", "-o"], "x.parquet"),
        "denoise": (["denoise", "default", "star.fits", "-o"], ""),
        "fit": (["fit", "default", "star.fits", "-o"], "x.parquet"),
        "train": (["train", "configs/demo.toml", *TRAIN, "-o"], ""),
        "synthesise": (["synthesise", "--labels", "hot.csv", "--range", "5000", "5010", "-o"], "x"),
        "simulate": (["simulate", "configs/sky.toml", *SKY, "-o"], ""),
        "homogenise": (["homogenise", "catalogue.parquet", "catalogue.parquet", "-o"], "x.csv"),
        "validate": (["validate", "catalogue.parquet", "-o"], "x.html"),
    }
    found = []
    for verb, (begin, name) in verbs.items():
        below = "star.fits/x" if not name else f"star.fits/{name}"
        found.append(Case(verb, "output below a file", [*begin, below]))
        sealed = f"/proc/{name or 'x'}"
        found.append(Case(verb, "output where nobody may write", [*begin, sealed]))
        found.append(
            Case(
                verb,
                "output in a folder that does not exist",
                [*begin, f"no/{name or 'x'}"],
                *([0] if verb in MAKE else []),
            )
        )
        if name:
            found.append(Case(verb, "output is a folder", [*begin, f"folder.{name}"]))
        else:
            found.append(Case(verb, "output is a file", [*begin, "text.fits"]))
    return found


def names() -> list[Case]:
    """Names that are in no list."""
    fit = ["fit", "default", "star.fits", "-o", "new.parquet"]
    predict = ["predict", "default", "star.fits", "-o"]
    both = ["catalogue.parquet", "catalogue.parquet"]
    return [
        Case("read", "an option that does not exist", ["read", "star.fits", "--plott", "x.png"], 2),
        Case("read", "a verb that does not exist", ["reed", "star.fits"], 2),
        Case("read", "a figure of an unknown format", ["read", "star.fits", "--plot", "x.pgn"]),
        Case("predict", "an unknown model", ["predict", "unified-v2", "star.fits", "-o", "x.fits"]),
        Case("predict", "an emulator as model",
             ["predict", "emulator-h", "star.fits", "-o", "x.fits"]),
        Case("predict", "a folder without a model",
             ["predict", "folder", "star.fits", "-o", "x.fits"]),
        Case("predict", "an unknown suffix", [*predict, "x.txt"]),
        Case("predict", "an unknown device", [*predict, "x.fits", "--device", "gpu"]),
        Case("predict", "an unknown word of --together",
             [*predict, "x.fits", "--together", "field"]),
        Case("predict", "a number out of range (--workers 0)",
             [*predict, "x.fits", "--workers", "0"], 2),
        Case("predict", "a scheduler that is not there",
             [*predict, "x.fits", "--scheduler", "tcp://127.0.0.1:1"]),
        Case("denoise", "an unknown device",
             ["denoise", "default", "star.fits", "-o", "new-folder", "--device", "gpu"]),
        Case("fit", "an unknown emulator", ["fit", "emulator-optic", "star.fits", "-o", "x.fits"]),
        Case("fit", "an unknown label", [*fit, "--labels", "teff,loggg"]),
        Case("fit", "an unknown method", [*fit, "--method", "ml"]),
        Case("fit", "a prior without a width", [*fit, "--prior", "logg=4.4"]),
        Case("fit", "a label held beyond its range", [*fit, "--fix", "teff=577"]),
        Case("fit", "a start that does not exist", [*fit, "--start", "absent.csv"]),
        Case("fit", "a calibration that does not exist",
             [*fit, "--calibration", "absent.safetensors"]),
        Case("fit", "an unknown model error", [*fit, "--model-error", "small"]),
        Case("homogenise", "an unknown method", ["homogenise", *both, "--method", "splines"]),
        Case("homogenise", "an unknown label", ["homogenise", *both, "--labels", "tef"]),
        Case("homogenise", "an unknown column", ["homogenise", *both, "--id", "sobject"]),
        Case("homogenise", "too few stars in both", ["homogenise", *both]),
        Case("synthesise", "neither stars nor a configuration", ["synthesise"]),
        Case("synthesise", "unknown atmospheres",
             ["synthesise", "--labels", "hot.csv", "--atmospheres", "mars", "-o", "x.grid"]),
        Case("synthesise", "unknown lines",
             ["synthesise", "--labels", "hot.csv", "--lines", "all", "-o", "x.grid"]),
        Case("synthesise", "high before low",
             ["synthesise", "--labels", "hot.csv", "--range", "6000", "5000", "-o", "x.grid"]),
    ]  # fmt: skip


def configurations() -> list[Case]:
    """Configurations with mistakes."""
    found = []
    for verb, good, wrong in (
        ("train", "configs/demo.toml", "misspelt.toml"),
        ("simulate", "configs/sky.toml", "sky.toml"),
        ("synthesise", "configs/grid.toml", "sky.toml"),
    ):
        found += [
            Case(verb, "no such configuration", [verb, "absent.toml"]),
            Case(verb, "a folder as configuration", [verb, "folder"]),
            Case(verb, "a spectrum as configuration", [verb, "star.fits"]),
            Case(verb, "no TOML", [verb, "not.toml"]),
            Case(verb, "a misspelt key", [verb, wrong]),
            Case(verb, "a misspelt key on the command line", [verb, good, "seeed=2"]),
            Case(verb, "a word in place of a number", [verb, good, "seed=one"]),
            Case(verb, "an override without a value", [verb, good, "seed"]),
        ]
    return [
        *found,
        Case("train", "no such store", ["train", "configs/demo.toml", "data.store=absent"]),
        Case("train", "a folder that is no store",
             ["train", "configs/demo.toml", "data.store=folder"]),
        Case("train", "an unknown label",
             ["train", "configs/demo.toml", *TRAIN[:1], 'data.labels=["tef"]']),
        Case("train", "too few stars", ["train", "configs/demo.toml", *TRAIN, "-o", "new-run"]),
        Case("train", "a fold that is not there",
             ["train", "configs/demo.toml", *TRAIN, "--only", "7", "-o", "new-run"]),
        Case("simulate", "low above high",
             ["simulate", "configs/sky.toml", "population.teff=[7000, 5000]"]),
        Case("simulate", "an unknown survey",
             ["simulate", "configs/sky.toml", "surveys.lamost.share=1"]),
        Case("simulate", "the folder of another sky",
             ["simulate", "configs/sky.toml", *SKY, "seed=9", "-o", "sky"]),
        Case("simulate", "a folder with other files",
             ["simulate", "configs/sky.toml", *SKY, "-o", "my folder é 星"]),
    ]  # fmt: skip


def tables(work: Path) -> list[Case]:
    """Tables that are not what is asked for."""
    ingest = ["ingest", "lamost_lrs", "star.fits", "-o", "new-store", "--labels"]
    fit = ["fit", "default", "star.fits", "-o", "new.parquet"]
    predict = ["predict", "default", "star.fits", "-o", "new.parquet", "--photometry"]
    synthesise = ["synthesise", "-o", "x.grid", "--range", "5000", "5010", "--labels"]
    validate = ["validate", "catalogue.parquet", "--truth"]
    found = []
    for verb, begin in (
        ("ingest", ingest), ("fit", [*fit, "--start"]), ("predict", predict),
        ("synthesise", synthesise), ("validate", validate), ("validate", ["validate"]),
        ("homogenise", ["homogenise", "catalogue.parquet"]),
    ):  # fmt: skip
        last = begin[-1] if begin[-1].startswith("--") else "catalogue"
        for name in ("absent.csv", "folder", "picture.fits", "cut.fits", "labels.csv"):
            found.append(Case(verb, f"{last} {name}", [*begin, name]))
    return [
        *found,
        Case("synthesise", "a word in a column of numbers", [*synthesise, "stars.csv"]),
        Case("synthesise", "a star beyond the atmospheres", [*synthesise, "hot.csv"]),
        Case("validate", "a truth of other stars", [*validate, "truth.csv"]),
        Case("ingest", "labels of another survey", [*ingest, str(_other(work))]),
    ]


def _other(work: Path) -> Path:
    return next((work / "sky/galah").glob("*.fits*")).relative_to(work)


def endings() -> list[Case]:
    """Commands that do not come to their end, and what is said when they are run again."""
    long = {
        "ingest": (["ingest", "lamost_lrs", "sky/lamost_lrs", "--keep-unlabelled", "-o", "late"],
                   "late"),
        "predict": (["predict", "default", "sky/galah", "--workers", "2", "-o", "late.parquet"],
                    "late.parquet.parts"),
        "denoise": (["denoise", "default", "sky/lamost_lrs", "-o", "late-spectra"], "late-spectra"),
        "fit": (["fit", "default", "star.fits", "-o", "late-fit.parquet"],
                "late-fit.parquet.parts"),
        "train": (["train", "configs/demo.toml", "data.store=store", "data.calibration=0.7",
                   "-o", "late-run"], "late-run"),
        "synthesise": (["synthesise", "configs/grid.toml", "stars.count=2", "-o", "late.grid"],
                       "late.grid.parts"),
        "simulate": (["simulate", "configs/sky.toml", *SKY, "population.stars=200", "--workers",
                      "2", "-o", "late-sky"], "late-sky"),
    }  # fmt: skip
    found = []
    for verb, (arguments, path) in long.items():
        found.append(Case(verb, "Ctrl-C", arguments, 130, "interrupt", path))
        if verb in ("ingest", "predict", "denoise", "fit", "simulate"):
            found.append(Case(verb, "the same again", arguments, 0))
    found.append(Case("read", "output closed (`| head -1`)", ["read", "sky"], 1, "closed"))
    close = ["predict", "default", "star.fits", "-o", "closed.fits"]
    found.append(Case("predict", "output closed (`| head -1`)", close, 1, "closed"))
    return found


def first_words(said: str, work: Path) -> str:
    """What the page shows: the first line, or the box that Typer draws, without machine paths."""
    lines = [line.strip("│ ") for line in said.splitlines()]
    lines = [line for line in lines if line and not re.match(r"[╭╰]|Usage:|Try '", line)]
    text = lines[0] if lines else "(nothing)"
    text = text.replace(str(work), "WORK").replace(str(ROOT), "REPOSITORY")
    text = re.sub(r"\d+(\.\d+)? s \(.*?/s\)", "… s", text)
    text = text[:LONGEST] + (" …" if len(text) > LONGEST else "")
    return text.replace("|", "\\|").replace("<", "&lt;").replace("*", "\\*").replace("_", "\\_")


def clean(work: Path) -> None:
    """Remove what a case wrote by mistake, so that the next begins anew."""
    for name in ("new-store", "new-folder", "new-run", "runs", "no"):
        shutil.rmtree(work / name, ignore_errors=True)
    odd = work / "my folder é 星"
    for path in [*work.glob("new.parquet*"), *work.glob("x.*"), *odd.glob("new*")]:
        shutil.rmtree(path) if path.is_dir() else path.unlink()


def page(rows: list[tuple[Case, int, str]], work: Path) -> list[str]:
    """Return the sections of the page."""
    wrong = [r for r in rows if "Traceback" in r[2] or r[1] != r[0].code]
    sections = [
        "# What is said when something is wrong",
        "```\npython benchmarks/errors.py --work WORK\n```",
        f"{len(rows)} of {len(cases(work))} commands that cannot do what they are asked to, "
        f"each run by itself in a folder WORK; {len(wrong)} showed a traceback or left with "
        "another code than they should. "
        "Exit codes: 0 done, 1 a mistake in the input or something in it that is bad, 2 wrong "
        "usage, 130 interrupted. Shown is the first line of what was said.",
        remarks("errors"),
    ]
    for verb in dict.fromkeys(case.verb for case, _, _ in rows):
        own = [row for row in rows if row[0].verb == verb]
        cells = [
            [
                case.what,
                str(code),
                "**TRACEBACK** " * ("Traceback" in said) + first_words(said, work),
            ]
            for case, code, said in own
        ]
        text = table(["tried", "exit code", "said"], cells).replace("---: |\n", "--- |\n", 1)
        sections.append(f"## {verb}\n\n{text}")
    return sections


def main() -> int:
    """Run all cases and write the page."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--work", type=Path, required=True, help="a new folder")
    parser.add_argument("--only", default="", help="a word of the cases to run; no page is written")
    parser.add_argument("--output", type=Path, default=ROOT / "docs/results/errors.md")
    given = parser.parse_args()
    work = given.work.resolve()
    if not work.exists():
        work.mkdir(parents=True)
        make_inputs(work)
        for name in ("x.png", "x.parquet", "x", "x.csv", "x.html"):
            (work / f"folder.{name}").mkdir()
    kept, rows = work / "rows.json", []
    before = {} if given.only or not kept.exists() else json.loads(kept.read_text())
    for case in cases(work):
        if given.only not in f"{case.verb}: {case.what}":
            continue
        clean(work)
        key = f"{case.verb}: {case.what}"
        if key not in before:
            before[key] = tried(work, case)
            if not given.only:
                kept.write_text(json.dumps(before))
        code, said = before[key]
        bad = "Traceback" in said or code != case.code
        rows.append((case, code, said))
        print("BAD " if bad else "    ", f"{case.verb}: {case.what}: {code}", flush=True)
        print("        ", said.strip()[-3000:] if bad else first_words(said, work), flush=True)
        if not given.only:
            write_page(given.output, page(rows, work))
    return int(any("Traceback" in said or code != case.code for case, code, said in rows))


if __name__ == "__main__":
    sys.exit(main())
