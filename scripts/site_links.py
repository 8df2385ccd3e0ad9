"""Hook of mkdocs: lessons are listed as they lie there, and a link to a file that is no page becomes that file's path."""

from __future__ import annotations

import logging
import os
import re
from pathlib import Path
from typing import Any

log = logging.getLogger("mkdocs.plugins.site_links")
LINK = re.compile(r"(?<!!)\[([^\]]+)\]\(((?:\.\./)+[^)#\s]*)(?:#[^)\s]*)?\)")


def on_config(config: Any) -> Any:
    """Put the pages of lessons into their section, in the order of their numbers."""
    docs = Path(config["docs_dir"])
    section = next(entry["Lessons"] for entry in config["nav"] if "Lessons" in entry)
    section += [page.relative_to(docs).as_posix() for page in sorted((docs / "lessons").glob("[0-9]*.md"))]
    return config


def on_page_markdown(markdown: str, page: Any, config: Any, files: Any) -> str:
    """Return a page's text in which all links stay within the site; a link to what is not there is a warning."""
    docs = Path(config["docs_dir"])

    def replace(match: re.Match[str]) -> str:
        text, target = match[1], match[2]
        path = Path(os.path.normpath(docs / Path(page.file.src_uri).parent / target))
        if path.is_relative_to(docs):
            return match[0]
        if not path.exists():
            log.warning("%s links to %s, which is not in the repository", page.file.src_uri, target)
        name = path.relative_to(docs.parent).as_posix()
        return f"`{name}`" if text.strip("`").rstrip("/") in (name, path.name) else f"{text} (`{name}`)"

    return LINK.sub(replace, markdown)
