"""MkDocs hooks: insert what is written from the code, and take along files outside docs/.

Pages link to files of the repository by their relative paths, so that the links work on the hosting
site as well. The built site gets a copy of each such file.
"""

import os
import re
from pathlib import Path
from typing import Any

import reference_pages  # beside this file, where MkDocs looks while it loads hooks
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).resolve().parent.parent
# Files of the repository that are pages of the site.
PROJECT_PAGES = {
    "CHANGELOG.md": "project/changelog.md",
    "CONTRIBUTING.md": "project/contributing.md",
    "SECURITY.md": "project/security-policy.md",
}
MARKS = {
    "parameters": reference_pages.parameters,
    "choices": reference_pages.choices,
    "commands": reference_pages.commands,
    "stages": reference_pages.stages,
    "api": reference_pages.api_overview,
}
API_SECTION = "Python API"
_MARK = re.compile(r"^<!-- generated: (\w+) -->$", re.MULTILINE)
_LINK = re.compile(r"(?<=\]\()([^)#\s]+)")
_FENCE = re.compile(r"^(```.*?^```)$", re.MULTILINE | re.DOTALL)


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Add a page for each package of the library to the navigation."""
    pages = [{f"src.{name}": f"reference/api/{name}.md"} for name in reference_pages.api_packages()]
    _section(config.nav or [], API_SECTION).extend(pages)
    return config


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages of the library's packages, and those that lie outside docs/."""
    for name in reference_pages.api_packages():
        text = reference_pages.api_page(name)
        files.append(File.generated(config, f"reference/api/{name}.md", content=text))
    for name, uri in PROJECT_PAGES.items():
        files.append(File.generated(config, uri, abs_src_path=str(ROOT / name)))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Replace the marks by generated text, and links that leave docs/ by links within the site."""
    markdown = _MARK.sub(lambda match: MARKS[match[1]](), markdown)
    parts = _FENCE.split(markdown)  # code stands at the odd places
    parts[::2] = [
        _LINK.sub(lambda match: _link(match[1], page.file, config, files), part)
        for part in parts[::2]
    ]
    return "".join(parts)


def _section(nav: list[Any], title: str) -> list[Any]:
    """Find a section of the navigation by its title."""
    for entry in nav:
        for name, inner in entry.items() if isinstance(entry, dict) else ():
            if isinstance(inner, list):
                if name == title:
                    return inner
                if found := _section(inner, title):
                    return found
    return []


def _link(link: str, file: File, config: MkDocsConfig, files: Files) -> str:
    """Return the link as it must be in the site."""
    if "://" in link or link.startswith("mailto:"):
        return link
    target = (_source(file, config).parent / link).resolve()
    docs = Path(config.docs_dir)
    if target.is_relative_to(docs):
        uri = target.relative_to(docs).as_posix()
    elif target.is_file() and target.is_relative_to(ROOT):
        name = target.relative_to(ROOT).as_posix()
        uri = PROJECT_PAGES.get(name, f"repository/{name}")
        if files.get_file_from_path(uri) is None:
            files.append(File.generated(config, uri, abs_src_path=str(target)))
    else:
        return link  # MkDocs reports it
    return os.path.relpath(uri, Path(file.src_uri).parent)


def _source(file: File, config: MkDocsConfig) -> Path:
    """Return the file of the repository from which a page is made."""
    for name, uri in PROJECT_PAGES.items():
        if file.src_uri == uri:
            return ROOT / name
    return Path(config.docs_dir) / file.src_uri
