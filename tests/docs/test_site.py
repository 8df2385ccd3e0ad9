"""The pages as a site: whole, with no link that leads nowhere, and fetching nothing from elsewhere."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest


@pytest.fixture(scope="module")
def site(root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The site, built as `make docs` builds it, where every warning is an error."""
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(folder)]
    done = subprocess.run(command, cwd=root, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


def test_every_page_is_in_the_site(site: Path, root: Path) -> None:
    docs = root / "docs"
    names = {str(page.relative_to(docs).with_suffix(".html")).replace("README", "index") for page in docs.rglob("*.md")}
    assert names - {str(page.relative_to(site)) for page in site.rglob("*.html")} == set()


def test_no_page_fetches_anything_from_elsewhere(site: Path) -> None:
    for page in site.rglob("*.html"):
        text = page.read_text(encoding="utf-8")
        fetched = re.findall(r"<(?:script|img|iframe|source)\b[^>]*?\bsrc=[\"']?([^\"' >]+)", text)
        fetched += re.findall(r"<link\b[^>]*?\bhref=[\"']?([^\"' >]+)", text)
        assert fetched, page
        assert [address for address in fetched if re.match(r"(?:\w+:)?//", address)] == [], page
        # For these the theme's script would ask a server elsewhere.
        assert 'class="mermaid"' not in text, page
    for style in site.rglob("*.css"):
        assert not re.search(r"(?:url\(|@import)\s*[\"']?(?:\w+:)?//", style.read_text(encoding="utf-8")), style


def test_links_to_files_of_the_repository_name_them(site: Path) -> None:
    said = (site / "multi-node.html").read_text(encoding="utf-8")
    assert "<code>deploy/slurm</code>" in said
    assert 'href="../deploy' not in said
