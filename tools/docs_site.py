"""Hook of mkdocs: pages that are written elsewhere, and the reference of each room.

The README, CONTRIBUTING, CHANGELOG and SECURITY are read on GitHub, so that their links lead below
`docs/`; the pages below `docs/` link to the configurations above. Here both come into one folder.
"""

from __future__ import annotations

import ast
import re
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mkdocs.config.defaults import MkDocsConfig
    from mkdocs.structure.files import Files
    from mkdocs.structure.pages import Page

REPOSITORY = Path(__file__).resolve().parents[1]
PAGES = {
    "README.md": "index.md",
    "CONTRIBUTING.md": "contributing.md",
    "CHANGELOG.md": "changelog.md",
    "SECURITY.md": "security.md",
}
"""File of the repository -> page of the site."""
FILES = ("NOTICE", "examples/quickstart.ipynb")
"""What these pages link to besides."""


def faces(package: Path) -> list[str]:
    """Find the dotted names of all packages with an `__all__`."""
    found = []
    for file in sorted(package.rglob("__init__.py")):
        tree = ast.parse(file.read_text(encoding="utf-8"))
        targets = [node.targets[0] for node in tree.body if isinstance(node, ast.Assign)]
        if any(isinstance(target, ast.Name) and target.id == "__all__" for target in targets):
            found.append(".".join(file.parent.relative_to(package.parent).parts))
    return found


def reference_pages(package: Path) -> dict[str, str]:
    """Page of the site -> Markdown, one for each package that offers names."""
    return {
        f"reference/{name.removeprefix(f'{package.name}.')}.md": f"# {name}\n\n::: {name}\n"
        for name in faces(package)
    }


def moved_links(text: str, moved: dict[str, str]) -> str:
    """Rewrite the links of a page from the top of the repository for the top of the site.

    Args:
        text: Markdown.
        moved: path in the repository -> path in the site; what is below `docs/` moves up by itself.
    """

    def replaced(match: re.Match[str]) -> str:
        path = match[1]
        return f"]({moved.get(path, path.removeprefix('docs/'))}"

    return re.sub(r"\]\(([^)#\s]+)", replaced, text)


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Add the reference to the navigation."""
    pages = [{Path(page).stem: page} for page in reference_pages(REPOSITORY / "pcdistill")]
    config.nav = [*(config.nav or []), {"Reference": pages}]
    return config


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages and files that do not lie below `docs/`."""
    from mkdocs.structure.files import File

    for source, page in PAGES.items():
        text = moved_links((REPOSITORY / source).read_text(encoding="utf-8"), PAGES)
        files.append(File.generated(config, page, content=text))
    for page, text in reference_pages(REPOSITORY / "pcdistill").items():
        files.append(File.generated(config, page, content=text))
    configs = [f"configs/{file.name}" for file in sorted((REPOSITORY / "configs").iterdir())]
    for name in (*FILES, *configs):
        files.append(File.generated(config, name, abs_src_path=str((REPOSITORY / name).resolve())))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Rewrite links to the configurations; mkdocs gives the arguments of all its hooks."""
    return re.sub(r"\]\(((?:\.\./)*)\.\./configs/", r"](\1configs/", markdown)
