"""The site that `make docs` makes: every link in it leads somewhere, and it needs no network."""

import re
import subprocess
import sys
from urllib.parse import unquote

import pytest
from launching import REPOSITORY


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """Rendered without executing the lessons, which a test of their own does."""
    pytest.importorskip("myst_nb", reason="needs the extra docs: pip install '.[docs]'")
    pytest.importorskip("furo", reason="needs the extra docs: pip install '.[docs]'")
    folder = tmp_path_factory.mktemp("site")
    words = ["-W", "--keep-going", "-q", "-b", "html", "-D", "nb_execution_mode=off"]
    command = [sys.executable, "-m", "sphinx", *words, "-d", str(folder / "trees"), "docs", str(folder / "html")]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return folder / "html"


@pytest.mark.slow
def test_links_lead_somewhere(site):
    pages = sorted(site.rglob("*.html"))
    assert len(pages) > 15
    wrong = []
    for page in pages:
        text = page.read_text(encoding="utf-8")
        for link in re.findall(r'(?:href|src)="([^"]*)"', text):
            path, _, anchor = unquote(link).partition("#")
            if "://" in path or link.startswith(("mailto:", "data:")) or anchor.startswith(".."):
                continue  # what leads out of the docs, tests/test_readme.py follows
            target = (page.parent / path.partition("?")[0]).resolve() if path else page
            if not target.exists():
                wrong.append((page.name, link))
            elif anchor and target.suffix == ".html" and f'id="{anchor}"' not in target.read_text(encoding="utf-8"):
                wrong.append((page.name, link))
    assert wrong == []


@pytest.mark.slow
def test_nothing_is_loaded_from_elsewhere(site):
    for page in site.rglob("*.html"):
        text = page.read_text(encoding="utf-8")
        loaded = re.findall(r'<(?:script|img|iframe|source)[^>]+src="([^"]+)"', text)
        loaded += re.findall(r'<link[^>]+href="([^"]+)"', text)
        assert [link for link in loaded if link.startswith(("http", "//"))] == [], page.name
