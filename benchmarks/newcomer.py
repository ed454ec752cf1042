"""A newcomer's run: every command of the README and the quick start, from a clean clone.

    python benchmarks/newcomer.py --work WORK

Clones the repository into WORK, runs the commands of the pages in their order exactly as they are
written, times them, and writes ``newcomer.md``. What is not run is named in `NOT_RUN` with the
reason. ``--venv`` takes an environment that is there already in place of a new one, and leaves
out what would make one; ``--brief`` also leaves out what takes many minutes.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from pages import remarks, table, write_page

ROOT = Path(__file__).parents[1]
FENCE = re.compile(r"^```(\w*)([^\n]*)\n(.*?)^```$", flags=re.M | re.S)
SHELL = ("", "console", "sh", "bash", "shell")
PATIENCE = 7200.0  # seconds that a command has
PAGES = {  # page -> folder in WORK where its commands are run
    "README.md": "clone",
    "docs/index.md": "clone",
    "docs/tutorials/first-catalogue.md": "tutorial",
}
OWN = "needs the user's own files"
LONG = "takes many minutes; left out by --brief"
INSTALLED = "an environment is there already (--venv)"
NOT_RUN = {  # beginning of a command -> why it is not run
    "spectrolabe read spec-55862": OWN,
    "spectrolabe ingest lamost_lrs spectra/": OWN,
    "spectrolabe train configs/lamost-dr10.toml data.store=runs/store": OWN,
    "spectrolabe predict default spectra/": OWN,
    "spectrolabe fit default spectra/": OWN,
    "spectrolabe denoise default visits/": OWN,
    "spectrolabe homogenise lamost.csv apogee.fits": OWN,
    "spectrolabe explore catalogue.parquet --spectra spectra/": OWN,
    "spectrolabe synthesise --labels stars.csv": OWN,
    "spectrolabe --install-completion": "changes the start files of the user's shell",
}
INSTALLS = ("python3 -m venv", ". .venv/bin/activate", "pip install", "make ")
SLOW = ("make ",)


@dataclass(frozen=True)
class Step:
    """A command of a page: its seconds, exit code, what it wrote, or why it was not run."""

    page: str
    command: str
    seconds: float = 0.0
    code: int = 0
    wrote: str = ""
    said: str = ""
    reason: str = ""


def commands(text: str) -> list[tuple[str, str]]:
    """Return the blocks of a page: ("$", command) in order, or (name, content) of a file."""
    found = []
    for match in FENCE.finditer(text):
        title = re.search(r'title="([^"]+)"', match[2])
        if title:
            found.append((title[1], match[3]))
        elif match[1] in SHELL:
            lines = match[3].replace("\\\n", " ").splitlines()
            found += [("$", re.sub(r"  +", " ", line.strip())) for line in lines if line.strip()]
    return found


def reason_of(command: str, given: argparse.Namespace) -> str:
    """Why a command is not run; empty if it is."""
    for begin, reason in NOT_RUN.items():
        if command.startswith(begin):
            return reason
    if given.venv and command.startswith(INSTALLS):
        return INSTALLED
    return LONG if given.brief and command.startswith(SLOW) else ""


def files(folder: Path) -> dict[str, float]:
    """Files and folders at the top of a folder, and below ``runs``, with their times."""
    below = [*folder.iterdir(), *(folder / "runs").glob("*")]
    return {p.relative_to(folder).as_posix() + "/" * p.is_dir(): p.stat().st_mtime for p in below}


def run(page: str, command: str, folder: Path, environment: dict[str, str]) -> Step:
    """Run one command of a page in bash."""
    before, begin = files(folder), time.monotonic()
    done = subprocess.run(
        ["bash", "-c", command], cwd=folder, env=environment, timeout=PATIENCE,
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    seconds = time.monotonic() - begin
    wrote = [n for n, t in files(folder).items() if before.get(n) != t and n != "runs/"]
    said = f"{done.stdout}\n{done.stderr}".strip()
    return Step(page, command, seconds, done.returncode, ", ".join(sorted(wrote)), said)


def walk(work: Path, given: argparse.Namespace) -> list[Step]:
    """Run all commands of all pages."""
    clone = work / "clone"
    venv = given.venv.absolute() if given.venv else clone / ".venv"
    environment = {
        **{k: v for k, v in os.environ.items() if k != "VIRTUAL_ENV"},
        "PATH": f"{venv / 'bin'}{os.pathsep}{os.environ['PATH']}",
        "NO_COLOR": "1", "TERM": "dumb", "COLUMNS": "120",
    }  # fmt: skip
    steps = []
    for page, name in PAGES.items():
        folder = work / name
        folder.mkdir(exist_ok=True)
        for kind, text in commands((clone / page).read_text(encoding="utf-8")):
            if kind != "$":
                (folder / kind).write_text(text, encoding="utf-8")
                continue
            reason = reason_of(text, given)
            same = any((s.command, PAGES[s.page], s.reason) == (text, name, "") for s in steps)
            if not reason and same:
                reason = "was run above"
            step = (
                Step(page, text, reason=reason) if reason else run(page, text, folder, environment)
            )
            steps.append(step)
            what = (
                f"not run: {step.reason}" if reason else f"{step.seconds:.0f} s, code {step.code}"
            )
            print(f"{page}: {text}\n    {what}", flush=True)
            if step.code:
                print(step.said[-2000:], flush=True)
    return steps


def report(steps: list[Step], given: argparse.Namespace, work: Path) -> list[str]:
    """Return the sections of the page."""
    ran = [step for step in steps if not step.reason]
    failed = [step for step in ran if step.code]
    how = "with an environment that was there" if given.venv else "with a new environment"
    sections = [
        "# A newcomer's run",
        "```\npython benchmarks/newcomer.py --work WORK"
        f"{' --venv VENV' * bool(given.venv)}{' --brief' * given.brief}\n```",
        f"A clean clone, {how}, {os.cpu_count()} processors. {len(ran)} commands were run as they "
        f"are written, {len(failed)} failed; {len(steps) - len(ran)} were not run, for the reasons "
        f"given. Together {sum(step.seconds for step in ran) / 60:.1f} minutes.",
        remarks("newcomer"),
    ]
    for page in PAGES:
        rows = [
            [
                f"`{step.command}`".replace("|", "\\|"),
                "–" if step.reason else f"{step.seconds:.0f}",
                "–" if step.reason else str(step.code),
                f"not run: {step.reason}" if step.reason else step.wrote.replace("_", "\\_") or "–",
            ]
            for step in steps
            if step.page == page
        ]
        sections.append(f"## {page}\n\n{table(['command', 'seconds', 'exit code', 'wrote'], rows)}")
    return [section.replace(str(work), "WORK") for section in sections]


def main() -> int:
    """Clone, run, and write the page; the exit code is 1 if a command failed."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--work", type=Path, required=True, help="a new folder")
    parser.add_argument("--venv", type=Path, help="an environment to use in place of a new one")
    parser.add_argument("--brief", action="store_true", help="leave out what takes many minutes")
    parser.add_argument("--output", type=Path, default=ROOT / "docs/results/newcomer.md")
    given = parser.parse_args()
    work = given.work.resolve()
    work.mkdir(parents=True)
    if shutil.which("git") is None:
        raise SystemExit("git is needed")
    subprocess.run(["git", "clone", "--quiet", str(ROOT), str(work / "clone")], check=True)
    steps = walk(work, given)
    write_page(given.output, report(steps, given, work))
    return int(any(step.code for step in steps))


if __name__ == "__main__":
    sys.exit(main())
