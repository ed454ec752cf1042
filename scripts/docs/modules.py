"""The pages of the Python reference: one for the public names, one for each part of the package."""

from __future__ import annotations

import ast
from pathlib import Path

import spectrolabe

__all__ = ["navigation", "pages"]

PARTS = {  # in the order in which data flow
    "spectra": "Spectra",
    "synthesis": "Synthesis",
    "surveys": "Surveys",
    "sky": "Synthetic sky",
    "catalogue": "Catalogue",
    "models": "Models",
    "training": "Training",
    "homogenise": "Homogenise",
    "inference": "Inference",
    "validation": "Validation",
    "explorer": "Explorer",
    "config": "Configuration",
    "guard": "Files of others",
}
OPTIONS = "    options:\n      show_root_heading: true\n      heading_level: 2\n"
SHORT = OPTIONS + "      show_root_full_path: false\n"


def navigation() -> list[tuple[str, str]]:
    """Titles and paths of the pages of modules."""
    return [(title, f"reference/{part}.md") for part, title in PARTS.items()]


def pages(root: Path) -> dict[str, str]:
    """The pages, each a list of what mkdocstrings shall document."""
    source = root / "src" / "spectrolabe"
    found = {"reference/index.md": _public()}
    for part, title in PARTS.items():
        text = [f"# {title}", "", f"Modules of `spectrolabe.{part}`. {_summary(source / part)}", ""]
        for path in sorted((source / part).rglob("*.py")):
            name = ".".join(path.relative_to(source.parent).with_suffix("").parts)
            if path.name != "__init__.py" and _exports(path):
                text += [f"::: {name}", OPTIONS]
        found[f"reference/{part}.md"] = "\n".join(text) + "\n"
    return found


def _public() -> str:
    text = ["# Python: the public names", ""]
    text += [
        "`import spectrolabe as sl`, then `sl.read(...)`; in the order in which data flow.",
        "",
    ]
    modules = spectrolabe._PUBLIC
    for name in spectrolabe.__all__:
        text += [f"::: spectrolabe.{modules[name]}.{name}", SHORT]
    return "\n".join(text) + "\n"


def _summary(package: Path) -> str:
    """The first paragraph of a package's docstring."""
    text = ast.get_docstring(ast.parse((package / "__init__.py").read_text("utf-8"))) or ""
    return " ".join(text.partition("\n\n")[0].split())


def _exports(path: Path) -> bool:
    """Whether a module has public names."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    return any(
        isinstance(node, ast.Assign) and getattr(node.targets[0], "id", "") == "__all__"
        for node in tree.body
    )
