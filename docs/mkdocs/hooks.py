"""What the site shows: pages of this repository at their own paths, and generated pages.

A page keeps the path that it has in the repository, so that a link works in both, and MkDocs finds dead links. A page
is on the site if the navigation or a link names it; linked code is shown as a page too. Generated are the options of
all commands, the Python reference, the page of the notebook and the pictures of diagrams.
"""

from __future__ import annotations

import logging
import os
import posixpath
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).resolve().parents[2]
HOME, OPTIONS, CONFIGS, PYTHON = "docs/index.md", "docs/reference/options.md", "configs", "docs/reference/python"
LANGUAGES = {".py": "python", ".yaml": "yaml", ".cfg": "ini", ".txt": "text", "": "text"}  # of code shown as a page
OF_CODE = "---\nsearch: {exclude: true}\nhide: [toc]\n---\n"  # the page is wider, and not found by searching
FETCHED = re.compile(
    r"<(?:script|img|iframe|source)\b[^>]*\bsrc=[\"']?(?:https?:)?//[^>]*>|<link\b[^>]*\bhref=[\"']?https?:[^>]*>"
)
logger = logging.getLogger("mkdocs.hooks")
LINK = re.compile(r"\]\(([^)\s#]+)[^)]*\)|^\[[^\]]+\]: ([^\s#]+)", re.MULTILINE)


class GeneratedPage(File):
    """A page whose text is not that of a Markdown file: code, a folder, a notebook."""

    def is_documentation_page(self) -> bool:
        return True


def on_config(config: MkDocsConfig) -> None:
    """Fill the generated parts of the navigation."""
    configs = [{path.name: f"{CONFIGS}/{path.name}"} for path in sorted((ROOT / CONFIGS).glob("*.yaml"))]
    rooms = [{name: f"{PYTHON}/{name}.md"} for name in python_rooms()]
    fill(config.nav, {CONFIGS: configs, PYTHON: rooms})


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Take the pages of the navigation, and what they link, and so on; the theme's own files stay."""
    found: dict[str, File] = {}
    waiting = [*paths_of(config.nav), *map(str, config.extra_css), *config.extra["polyfills"]]
    while waiting:
        if (path := waiting.pop()) not in found and (file := file_of(path, config)):
            found[path] = file
            if file.is_documentation_page():
                waiting += linked_from(path, file.content_string)
    theirs = [file for file in files if file.src_dir != config.docs_dir]
    return Files([*theirs, *found.values(), *pictures_of_notebooks(config, found)])


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Draw diagrams: the theme would load a program for it from another machine."""
    import mermaidx

    def drawn(block: re.Match[str]) -> str:
        name = f"{Path(page.file.src_uri).stem}_diagram_{block.start()}.svg"
        svg = mermaidx.render(block[1]).svg()
        files.append(File.generated(config, str(Path(page.file.src_uri).parent / name), content=svg))
        return f"![Diagram]({name}){{ .diagram }}\n"

    return re.sub(r"^```mermaid\n(.*?)^```$", drawn, markdown, flags=re.DOTALL | re.MULTILINE)


def on_post_page(output: str, page: Page, config: MkDocsConfig) -> None:
    """Warn of what a browser would fetch from another machine as soon as the page is opened."""
    for element in FETCHED.findall(output):
        logger.warning("%s fetches %s", page.file.src_uri, element)


def file_of(path: str, config: MkDocsConfig) -> File | None:
    """The site's file of a path in the repository; None if there is none, which MkDocs then reports."""
    here = ROOT / path
    if path == OPTIONS:
        return File.generated(config, path, content=options_page())
    if path.startswith(PYTHON):
        return File.generated(config, path, content=python_page(here.stem))
    if here.suffix == ".ipynb":
        return generated(path, notebook(path)[0], config)
    if here.is_dir():
        items = sorted(child.name + "/" * child.is_dir() for child in here.iterdir() if child.name != "__pycache__")
        return generated(path, f"# {path}\n\n" + "".join(f"- [{name}]({here.name}/{name})\n" for name in items), config)
    if not here.is_file():
        return None
    if here.suffix in LANGUAGES and here.parent != ROOT / "docs" / "mkdocs":
        text = f"{OF_CODE}# {path}\n\n~~~~{LANGUAGES[here.suffix]}\n{here.read_text()}\n~~~~\n"
        return generated(path, text, config)
    file = File(path, str(ROOT), config.site_dir, use_directory_urls=False)
    if here.suffix == ".md":  # not index.html for README.md
        file.dest_uri = "index.html" if path == HOME else path.removesuffix(".md") + ".html"
    return file


def generated(path: str, text: str, config: MkDocsConfig) -> File:
    """A page beside the file or folder that it shows."""
    file = GeneratedPage.generated(config, path, content=text)
    file.dest_uri = f"{path}.html"
    return file


def linked_from(path: str, text: str) -> Iterator[str]:
    """Paths in the repository that a page links or embeds."""
    for match in LINK.finditer(text):
        target = match[1] or match[2]
        if not re.match(r"[a-z]+:", target):
            yield posixpath.normpath(posixpath.join(posixpath.dirname(path), target))


def paths_of(nav: Any) -> Iterator[str]:
    """All paths in a navigation."""
    if isinstance(nav, str):
        yield nav
    else:
        for item in nav.values() if isinstance(nav, dict) else nav:
            yield from paths_of(item)


def fill(nav: Any, parts: dict[str, list[Any]]) -> None:
    """Replace each path in a navigation that is a key of `parts`."""
    for item in nav:
        if isinstance(item, dict):
            for title, value in item.items():
                if isinstance(value, list):
                    fill(value, parts)
                elif value in parts:
                    item[title] = parts[value]


def python_rooms() -> list[str]:
    """The packages of the repository, `bundle` itself first; `bundle.core` is `scripts.core`."""
    rooms = sorted(".".join(path.parent.relative_to(ROOT).parts) for top in ("bundle", "scripts")
                   for path in (ROOT / top).glob("*/__init__.py"))  # fmt: skip
    return ["bundle", *(room for room in rooms if room != "bundle.core")]


def python_page(room: str) -> str:
    """Docstrings of a package and its modules; of `bundle`, of its own modules."""
    folder = ROOT.joinpath(*room.split("."))
    modules = sorted(path.stem for path in folder.glob("*.py") if not path.stem.startswith("_"))
    return (
        f"---\nsearch: {{boost: 0.5}}\n---\n# {room}\n\n"
        + f"::: {room}\n    options: {{show_submodules: false, heading_level: 2}}\n"
        + "".join(f"\n## {module}\n\n::: {room}.{module}\n    options: {{heading_level: 3}}\n" for module in modules)
    )


def options_page() -> str:
    """The help of every command, as the command line prints it."""
    sys.path.insert(0, str(ROOT))
    os.environ["COLUMNS"] = "90"
    from bundle.command_line.cli import parser

    top = parser()
    commands = next(action.choices for action in top._actions if action.choices)
    parts = [f"## {name}\n\n```text\n{command.format_help()}```\n" for name, command in commands.items()]
    return "# Options of all commands\n\nWhat `python -m bundle COMMAND --help` prints.\n\n" + "\n".join(parts)


def notebook(path: str) -> tuple[str, dict[str, bytes]]:
    """Markdown of a notebook with its outputs, and the pictures in it by name."""
    from nbconvert import MarkdownExporter

    text, resources = MarkdownExporter().from_filename(str(ROOT / path))
    return text, resources["outputs"]


def pictures_of_notebooks(config: MkDocsConfig, found: dict[str, File]) -> Iterator[File]:
    """Files of the pictures that the pages of notebooks embed."""
    for path in found:
        if path.endswith(".ipynb"):
            for name, picture in notebook(path)[1].items():
                yield File.generated(config, str(Path(path).parent / name), content=picture)
