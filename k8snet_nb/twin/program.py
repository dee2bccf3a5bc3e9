"""Starting a module of this package as a program of its own, without the package's front door.

The front door loads pandas and more, which takes seconds in a guest and is of no use to what runs in namespaces.
"""

from __future__ import annotations

import sys
from pathlib import Path

__all__ = ["program"]

_BOOT = (
    "import sys,types,runpy;p=types.ModuleType('k8snet_nb');p.__path__=[sys.argv.pop(1)];"
    "sys.modules['k8snet_nb']=p;runpy.run_module(sys.argv.pop(1),run_name='__main__',alter_sys=True)"
)


def program(module: str, *arguments: str, libraries: bool = False, python: str = sys.executable) -> list[str]:
    """The command that runs ``module`` (``twin.guest_init``) with this interpreter and nothing of the environment.

    ``libraries``: whether it may import what is installed beside the standard library (a slower start).
    """
    package = Path(__file__).resolve().parent.parent
    flags = ["-I"] if libraries else ["-I", "-S"]
    return [python, *flags, "-c", _BOOT, str(package), f"{package.name}.{module}", *arguments]
