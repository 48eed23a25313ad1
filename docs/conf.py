"""Settings of the site that `make docs` renders from these pages and lessons; see sphinx-doc.org."""

import os
import sys
from pathlib import Path

DOCS = Path(__file__).parent
sys.path.insert(0, str(DOCS.parent))
os.environ["PYTHONPATH"] = str(DOCS.parent)  # of the kernels that execute the lessons

import cnn_jax  # noqa: E402
from cnn_jax.explore import pages  # noqa: E402

project = "cnn_jax"
release = version = cnn_jax.__version__
copyright = "the authors of cnn_jax"
extensions = ["myst_nb"]
root_doc = "index"
html_theme = "furo"
html_title = f"cnn_jax {version}"
html_show_sphinx = html_copy_source = html_show_sourcelink = False
myst_heading_anchors = 4
# Links to code lead out of the site; tests/test_readme.py follows them.
suppress_warnings = ["myst.xref_missing"]

# The page on windows is the live page's.
made = DOCS.parent / "build" / "pages"
made.mkdir(parents=True, exist_ok=True)
(made / "windows_and_padding.html").write_text(pages.windows(), encoding="utf-8")
html_extra_path = [str(made)]

# A lesson whose text and code are as they were is not executed again.
nb_execution_mode = "cache"
nb_execution_cache_path = str(DOCS.parent / "build" / "lessons")
nb_execution_timeout = 300
nb_execution_raise_on_error = True
nb_merge_streams = True
