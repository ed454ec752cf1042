"""Hooks of mkdocs: the pages of the site that are made of the project itself.

The command line is described by the command, models by their cards, columns of label catalogues by
the survey classes, modules by their docstrings; DESIGN.md and its like lie outside of docs/. None
of that is kept twice: it is generated when the site is built. Links of pages to what lies outside
of docs/ lead to these pages, or become plain text where the site has nothing.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path, PurePosixPath
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).parents[2]
sys.path[:0] = [str(ROOT / "src"), str(Path(__file__).parent)]

import cards  # noqa: E402
import columns  # noqa: E402
import command  # noqa: E402
import modules  # noqa: E402

COPIED = {  # of the repository: page of the site
    "DESIGN.md": "design.md",
    "CONTRIBUTING.md": "contributing.md",
    "CHANGELOG.md": "changelog.md",
    "src/spectrolabe/synthesis/tables/README.md": "tables.md",
    "configs/sky.toml": "configs/sky.md",
}
ELSEWHERE = {"README.md": "index.md", "weights/README.md": "models/index.md"}
WRITTEN_LATER = ("cluster.md",)  # in the navigation as soon as the page is there
LINK = re.compile(r"(!?)\[([^\]]*)\]\((?!https?:|#|mailto:)([^)#\s]*)(#[^)\s]*)?\)")


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Complete the navigation: models, modules, and pages that may not be written yet."""
    for section in config.nav or []:
        for title, entries in section.items():
            if title == "Models":
                entries += [{name: f"models/{name}.md"} for name in cards.names(ROOT)]
            elif title == "Reference":
                entries += [{name: path} for name, path in modules.navigation()]
            if isinstance(entries, list):
                entries[:] = [entry for entry in entries if _is_there(entry, config)]
    return config


def _is_there(entry: Any, config: MkDocsConfig) -> bool:
    names = entry.values() if isinstance(entry, dict) else [entry]
    return all(name not in WRITTEN_LATER or Path(config.docs_dir, name).is_file() for name in names)


def on_files(files: Files, *, config: MkDocsConfig) -> Files:
    """Add the generated pages."""
    pages = {page: _copied(source) for source, page in COPIED.items()}
    pages |= cards.pages(ROOT) | modules.pages(ROOT)
    pages |= {"reference/command.md": command.page(), "label-columns.md": columns.page()}
    for name, content in pages.items():
        files.append(File.generated(config, name, content=content))
    return files


def on_page_markdown(markdown: str, *, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Turn links that leave docs/, and the few formulae that tables of results have."""
    folder = PurePosixPath("docs", page.file.src_uri).parent
    markdown = LINK.sub(lambda link: _link(link, folder, page.file.src_uri), markdown)
    return markdown.replace(r"$v_\mathrm{broad}$", "v<sub>broad</sub>")


def _copied(source: str) -> str:
    """A file of the repository as a page, its links as from docs/."""
    text = (ROOT / source).read_text(encoding="utf-8")
    if source.endswith(".toml"):
        return f"# {Path(source).name}\n\n```toml\n{text}```\n"
    page = COPIED[source]
    folder = PurePosixPath(source).parent
    return LINK.sub(lambda link: _link(link, folder, page), text)


def _link(link: re.Match[str], folder: PurePosixPath, page: str) -> str:
    """A link of a file in a folder of the repository, as one of a page of the site."""
    image, text, target, anchor = link[1], link[2], link[3], link[4] or ""
    path = _normal(folder / target)
    found = COPIED.get(path) or ELSEWHERE.get(path)
    if found is None and path.startswith("docs/"):
        found = path.removeprefix("docs/")
    if found is None:
        return text if text.startswith("`") else f"`{path}`" if text == target else text
    return f"{image}[{text}]({_relative(found, page)}{anchor})"


def _normal(path: PurePosixPath) -> str:
    parts: list[str] = []
    for part in path.parts:
        if part == "..":
            parts = parts[:-1]
        elif part != ".":
            parts.append(part)
    return "/".join(parts)


def _relative(target: str, page: str) -> str:
    ups = "../" * (len(PurePosixPath(page).parts) - 1)
    return ups + target
