"""What the documents say of the project is true of the project."""

from __future__ import annotations

import ast
import re
import subprocess
import tomllib
from pathlib import Path

import pytest

import spectrolabe as sl
from spectrolabe import cli
from spectrolabe.catalogue import schema
from spectrolabe.surveys import SURVEYS
from spectrolabe.surveys.keywords import EXAMPLES

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
DOCUMENTS = (
    "README.md",
    "DESIGN.md",
    "CONTRIBUTING.md",
    *(
        f"docs/{page}.md"
        for page in (
            "surveys",
            "generic",
            "synthesis",
            "grids",
            "sky",
            "emulator",
            "fit",
            "calibration",
            "distances",
            "ages",
            "validate",
            "explorer",
            "cluster",
        )
    ),
)


def text(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


def blocks(name: str, language: str = "") -> list[str]:
    """The code blocks of a document in one language."""
    fenced = re.findall(r"^```(\w*)\n(.*?)^```$", text(name), flags=re.M | re.S)
    return [code for found, code in fenced if found == language]


def test_every_path_of_the_map_exists():
    folders = "src|tests|configs|docs|benchmarks|scripts"
    named = set(re.findall(rf"`((?:{folders})/[^`: ]*)`", text("DESIGN.md")))
    assert len(named) > 30
    assert [path for path in sorted(named) if not (ROOT / path).exists()] == []


def test_every_part_of_the_package_is_on_the_map():
    package = ROOT / "src" / "spectrolabe"
    parts = [path for path in package.iterdir() if path.suffix == ".py" or path.is_dir()]
    names = [path.relative_to(ROOT).as_posix() for path in parts if "__pycache__" not in path.name]
    assert len(names) > 8
    assert [name for name in names if f"`{name}" not in text("DESIGN.md")] == []


def test_every_test_that_holds_a_law_exists():
    named = re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", text("DESIGN.md"))
    assert len(named) > 30
    defined = {
        path: {node.name for node in ast.parse(text(path)).body if hasattr(node, "name")}
        for path, _ in named
    }
    assert [f"{path}::{name}" for path, name in named if name not in defined[path]] == []


def test_every_dependency_has_its_reason_and_is_imported():
    table = text("DESIGN.md").partition("## Dependencies")[2]
    packages = {re.split(r"[<>=;\[ ]", one)[0] for one in PROJECT["dependencies"]}
    source = "\n".join(path.read_text("utf-8") for path in (ROOT / "src").rglob("*.py"))
    modules = {"scikit-learn": "sklearn", "xgboost-cpu": "xgboost", "umap-learn": "umap"}
    for package in packages:
        assert package.removesuffix("-cpu") in table, package
        module = modules.get(package, package)
        used = rf'^\s*(import|from) {module}\b|find_spec\("{module}"\)'  # code, or its data only
        assert re.search(used, source, flags=re.M), package


@pytest.mark.parametrize("document", DOCUMENTS)
def test_links_lead_somewhere(document):
    """The pages of results are written from measurements and need not be there yet."""
    for link in re.findall(r"\]\((?!https?:)([^)#]+)", text(document)):
        target = (ROOT / document).parent / link
        assert target.exists() or target.parent.name == "results", link


@pytest.mark.parametrize("document", DOCUMENTS)
def test_commands_and_make_targets_exist(document):
    verbs = {command.callback.__name__ for command in cli.app.registered_commands}
    targets = set(re.findall(r"^([a-z]+):", text("Makefile"), flags=re.M))
    used = text(document)
    assert set(re.findall(r"^spectrolabe ([a-z]+)\b", used, flags=re.M)) <= verbs
    assert set(re.findall(r"`spectrolabe ([a-z]+)\b", used)) <= verbs
    assert set(re.findall(r"(?:`|^)make ([a-z]+)\b", used, flags=re.M)) <= targets


def test_the_readme_shows_every_verb_and_its_options():
    shown = "\n".join(blocks("README.md"))
    for command in cli.app.registered_commands:
        verb = command.callback.__name__
        lines = re.findall(rf"^spectrolabe {verb} .*", shown, flags=re.M)
        assert lines, verb
        source = Path(cli.__file__).read_text(encoding="utf-8")
        for option in re.findall(r"--[a-z-]+", " ".join(lines)):
            name = option.removeprefix("--").replace("-", "_")
            assert f"    {name}: Annotated" in source, option


def test_the_python_of_the_readme_names_what_exists():
    (code,) = blocks("README.md", "python")
    ast.parse(code)
    names = set(re.findall(r"\bsl\.(\w+)", code))
    assert len(names) >= 4
    assert names <= set(sl.__all__)


def test_the_demo_on_real_data_says_what_it_needs(tmp_path):
    environment = dict.fromkeys(
        ("DATA", "SPECTRA", "LABELS", "SURVEY", "CONFIG", "SETTINGS", "WORKERS"), ""
    )
    environment |= {"VENV": str(tmp_path), "RUN": str(tmp_path / "run"), "PATH": "/usr/bin:/bin"}
    done = subprocess.run(
        ["sh", ROOT / "scripts" / "demo.sh"], capture_output=True, text=True, env=environment
    )
    assert done.returncode == 2
    assert "make demo DATA=" in done.stderr
    assert not (tmp_path / "run").exists()


def test_versions_agree():
    cited = re.search(r"^version: (.+)$", text("CITATION.cff"), flags=re.M)
    latest = re.search(r"^## (\S+)", text("CHANGELOG.md"), flags=re.M)
    assert cited is not None
    assert latest is not None
    assert cited[1] == latest[1] == PROJECT["version"]


def test_the_licence_is_the_one_declared():
    assert PROJECT["license"] == "BSD-3-Clause"
    assert text("LICENSE").startswith("BSD 3-Clause License")
    assert "license: BSD-3-Clause" in text("CITATION.cff")


def test_every_column_and_flag_of_the_catalogue_is_described():
    page = text("docs/catalogue.md")
    wanted = [
        f"| `{name}` | {f'{column.unit} ' if column.unit else ''}| {column.description} |"
        for name, column in schema.IDENTITY.items()
    ]
    wanted += [
        f"| {int(flag)} | `{flag.name}` | {'bad ' if flag in schema.BAD else ''}| {meaning} |"
        for flag, meaning in schema.RESULT_FLAGS.items()
    ]
    wanted += [
        f"| {int(flag)} | `{flag.name}` | {meaning} |"
        for flag, meaning in schema.LABEL_FLAGS.items()
    ]
    assert [line for line in wanted if line not in page] == []
    flags = re.findall(r"^\| \d+ \| `(\w+)`", page, flags=re.M)
    assert len(flags) == len(schema.ResultFlag) + len(schema.LabelFlag)


def test_every_survey_is_described_twice():
    """Once among the spectra, once among the label catalogues."""
    spectra, _, catalogues = text("docs/surveys.md").partition("## Label catalogues")
    for part in (spectra, catalogues):
        first = re.findall(r"^\| (`[^|]*`) \|", part, flags=re.M)
        assert sorted(re.findall(r"`(\w+)`", " ".join(first))) == sorted(SURVEYS)


def test_every_keyword_of_a_generic_file_is_described():
    described = set(re.findall(r"^\| `([A-Z_]+)` \|", text("docs/generic.md"), flags=re.M))
    assert described == set(EXAMPLES)
