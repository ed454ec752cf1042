"""Nothing in the source can run what a file says."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FORBIDDEN = {
    "pickle": r"\b(?:c?pickle|dill|joblib|shelve|marshal)\b",
    "torch.load": r"\btorch\.load\b",
    "allow_pickle=True": r"allow_pickle\s*=\s*(?!False\b)",
    "np.load without allow_pickle=False": r"\bnp\.load\((?![^()]*allow_pickle=False)",
    "eval": r"(?<![.\w])eval\(",
    "exec": r"(?<![.\w])exec\(",
    "yaml": r"\byaml\.(?:unsafe_|full_)?load\b",
    "a shell": r"shell\s*=\s*True|\bos\.system\(|\bos\.popen\(",
    "the network": r"\burllib\.request\b|\brequests\.get\b|\bsocket\.",
}
ALLOWED = {
    # prose
    ("src/spectrolabe/models/age_files.py", "pickle"): 1,
    ("src/spectrolabe/models/checkpoint.py", "pickle"): 1,
    ("src/spectrolabe/sky/simulate.py", "pickle"): 1,
}


def occurrences(folder: str) -> dict[tuple[str, str], int]:
    """How often each forbidden thing is in each file."""
    found: dict[tuple[str, str], int] = {}
    for path in sorted((ROOT / folder).rglob("*.py")):
        text = path.read_text(encoding="utf-8")
        for name, pattern in FORBIDDEN.items():
            if count := len(re.findall(pattern, text)):
                found[path.relative_to(ROOT).as_posix(), name] = count
    return found


def test_the_package_has_nothing_that_runs_what_it_reads():
    assert occurrences("src") == ALLOWED
    assert occurrences("scripts") == {}


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("import pickle", "pickle"),
        ("torch.load(path)", "torch.load"),
        ("np.load(path, allow_pickle=True)", "allow_pickle=True"),
        ("np.load(path)", "np.load without allow_pickle=False"),
        ("x = eval(text)", "eval"),
        ("exec(code)", "exec"),
        ("yaml.load(text)", "yaml"),
        ("subprocess.run(line, shell=True)", "a shell"),
    ],
)
def test_the_search_finds_what_it_looks_for(text, name):
    assert re.search(FORBIDDEN[name], text)


def test_the_search_leaves_the_rest_alone():
    harmless = "model.eval()\nnp.load(path, allow_pickle=False)\nast.parse(text, mode='eval')"
    assert not any(re.search(pattern, harmless) for pattern in FORBIDDEN.values())
