"""Writes the API reference, made from docstrings, into site/ (or the folder named). Nothing is fetched, and the pages
fetch nothing.
"""

from __future__ import annotations

import pkgutil
import sys
import warnings
from importlib import import_module
from pathlib import Path

import pdoc

import k8snet_nb

ROOT = Path(__file__).resolve().parent.parent


def modules() -> list[str]:
    """What to hand to pdoc so that every module has one page: it goes from a package to the modules in it by itself,
    but only to those in ``__all__`` where there is one.
    """
    asked: list[str] = []
    reached: set[str] = set()
    for name in ["k8snet_nb", *sorted(found.name for found in pkgutil.walk_packages(k8snet_nb.__path__, "k8snet_nb."))]:
        if name not in reached:
            asked.append(name)
            reached.update(pdoc.extract.walk_specs([name]))
    return asked


def load_lazy_names() -> None:
    """Put into each package's dictionary, which is what pdoc reads, the names that get there when first asked for."""
    found = (module.name for module in pkgutil.walk_packages(k8snet_nb.__path__, "k8snet_nb.") if module.ispkg)
    for package in map(import_module, ["k8snet_nb", *found]):
        for name in getattr(package, "__all__", ()):
            vars(package).setdefault(name, getattr(package, name))


def build(folder: Path) -> None:
    """Write the pages into ``folder``."""
    load_lazy_names()
    pdoc.render.configure(
        docformat="restructuredtext", show_source=False, footer_text=f"k8snet_nb {k8snet_nb.__version__}"
    )
    with warnings.catch_warnings():
        # Types that only a checker can resolve (pandas and argparse are generic in stubs only): shown as written.
        warnings.filterwarnings("ignore", "Error parsing type annotation", UserWarning)
        pdoc.pdoc(*modules(), output_directory=folder)


if __name__ == "__main__":
    build(Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT / "site")
