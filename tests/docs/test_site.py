"""What the site says of the project is what the project says of itself."""

from __future__ import annotations

import importlib.util
import json
import re
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

from spectrolabe import cli
from spectrolabe.surveys import SURVEYS

ROOT = Path(__file__).parents[2]


def script(name: str) -> ModuleType:
    """A module of scripts/docs."""
    path = ROOT / "scripts" / "docs" / f"{name}.py"
    spec = importlib.util.spec_from_file_location(f"docs_{name}", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_every_verb_and_option_is_on_the_page_of_the_command():
    page = script("command").page()
    for verb in cli.app.registered_commands:
        _, found, section = page.partition(f"\n## {verb.callback.__name__}\n")
        assert found
        section = section.partition("\n## ")[0]
        source = Path(cli.__file__).read_text(encoding="utf-8")
        body = source.partition(f"\ndef {verb.callback.__name__}(")[2].partition("-> None")[0]
        for option in re.findall(r'"(--[a-z-]+)"', body):
            assert f"`{option}`" in section
        names = re.findall(r"^    (\w+): Annotated", body, flags=re.M)
        rows = re.findall(r"^\| `", section, flags=re.M)
        assert len(rows) == len(names), verb


def test_every_model_has_a_page_with_its_numbers():
    pages = script("cards").pages(ROOT)
    for path in (ROOT / "weights").glob("*/card.json"):
        page = pages[f"models/{path.parent.name}.md"]
        card = json.loads(path.read_text(encoding="utf-8"))
        assert "## Limits" in page
        if "weights_sha256" in card:
            assert card["weights_sha256"] in page
        for label, error in card.get("unseen_mad", {}).items():
            assert f"| `{label}` | {error:.3g} |" in page
    assert len(pages) > 5


def test_every_survey_has_its_columns_and_its_archive():
    page = script("columns").page()
    archives = (ROOT / "docs" / "archives.md").read_text(encoding="utf-8")
    for name, survey in SURVEYS.items():
        assert f"`{name}`" in page
        for column in survey.required_columns:
            assert f"`{column}`" in page
    for name in ("LAMOST", "APOGEE", "SDSS-V", "BOSS", "DESI", "GALAH", "Gaia RVS", "WEAVE", "ESO"):
        assert re.search(rf"^## .*{name}", archives, flags=re.M), name


def test_every_module_with_public_names_is_in_the_reference():
    shown = "\n".join(script("modules").pages(ROOT).values())
    for path in (ROOT / "src" / "spectrolabe").rglob("*.py"):
        parts = path.relative_to(ROOT / "src").with_suffix("").parts
        inside = len(parts) > 2 and path.name != "__init__.py"
        if inside and re.search(r"^__all__ =", path.read_text(encoding="utf-8"), flags=re.M):
            assert f"::: {'.'.join(parts)}\n" in shown


@pytest.mark.slow
def test_the_site_builds_and_needs_no_network(tmp_path):
    """Strict: every link leads somewhere, every page is in the navigation."""
    pytest.importorskip("mkdocs")
    command = Path(sys.executable).with_name("mkdocs")
    done = subprocess.run(
        [command, "build", "--strict", "--site-dir", tmp_path / "site"],
        capture_output=True,
        text=True,
        cwd=ROOT,
    )
    assert done.returncode == 0, done.stderr
    pages = list((tmp_path / "site").rglob("*.html"))
    assert len(pages) > 60
    for page in pages:
        loaded = re.findall(
            r'<(?:script|img|link)[^>]+(?:src|href)="(https?:[^"]+)"', page.read_text()
        )
        assert loaded == [], page
