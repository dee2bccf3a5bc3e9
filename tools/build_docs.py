"""Writes the API reference, made from docstrings, into site/ (or the folder named). Nothing is fetched, and the pages
fetch nothing.
"""

from __future__ import annotations

import pkgutil
import sys
from pathlib import Path

import pdoc

import k8snet_nb

ROOT = Path(__file__).resolve().parent.parent


def modules() -> list[str]:
    """The package and the modules in it, by name: what is public comes from the first, the rest is for contributors."""
    found = pkgutil.walk_packages(k8snet_nb.__path__, "k8snet_nb.")
    return ["k8snet_nb", *sorted(module.name for module in found)]


def build(folder: Path) -> None:
    """Write the pages into ``folder``."""
    for name in k8snet_nb.__all__:  # pdoc reads a module's dictionary, and most names get there when first asked for
        vars(k8snet_nb)[name] = getattr(k8snet_nb, name)
    pdoc.render.configure(docformat="restructuredtext", show_source=False, footer_text=f"k8snet_nb {k8snet_nb.__version__}")
    pdoc.pdoc(*modules(), output_directory=folder)


if __name__ == "__main__":
    build(Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT / "site")
