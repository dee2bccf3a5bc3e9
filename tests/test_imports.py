"""Which room may import what. The direction between the rooms is a contract of import-linter (pyproject.toml)."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "k8snet_nb"
TABLES = {"numpy", "pandas"}
LIBRARIES = {
    "agent": {"pyroute2"},
    "cluster": TABLES,
    "explain": {*TABLES, "dns"},
    "parse": {*TABLES, "dns"},
    "record": {"dns"},
    "show": {*TABLES, "IPython", "PIL", "ipywidgets", "matplotlib"},
    "sources": {"kubernetes", "urllib3", "websocket"},  # the last two: what the client itself speaks through
    "twin": {*TABLES, "dns"},
}
"""The libraries that a room may import beside the standard library; modules outside the rooms may import none."""
NO_INPUT_OUTPUT = {"http", "os", "pathlib", "shutil", "socket", "subprocess", "tempfile", "urllib"}
HEAVY = {"kubernetes", "pyroute2", "matplotlib", "ipywidgets", "jupyterlab", "IPython"}

SPELLING = {"AF_INET", "AF_INET6", "inet_aton", "inet_ntoa", "inet_ntop", "inet_pton"}

MODULES = sorted(
    path.relative_to(PACKAGE).as_posix()
    for path in PACKAGE.rglob("*.py")
    if "data" not in path.relative_to(PACKAGE).parts
)


def imported(path: Path) -> set[str]:
    """Top names of everything from outside the package that a file imports, in functions too."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names.update(alias.name.split(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            names.add(node.module.split(".")[0])
    return names


def socket_names(path: Path) -> set[str]:
    """What a file uses of the module ``socket``."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    return {
        node.attr
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "socket"
    } | {
        alias.name
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and node.module == "socket"
        for alias in node.names
    }


@pytest.mark.parametrize("module", MODULES)
def test_a_room_imports_its_own_libraries_only(module: str) -> None:
    room = module.split("/")[0] if "/" in module else ""
    names = imported(PACKAGE / module)
    foreign = names - set(sys.stdlib_module_names) - LIBRARIES.get(room, set())
    assert not foreign, f"{module} imports {sorted(foreign)}: not a library of this room"
    if room in ("parse", "explain"):
        doing = names & NO_INPUT_OUTPUT
        if "socket" in doing and socket_names(PACKAGE / module) <= SPELLING:
            doing -= {"socket"}  # reading and writing addresses opens nothing
        assert not doing, f"{module} may do no input or output"


def test_the_package_imports_itself_relatively() -> None:
    absolute = [module for module in MODULES if "k8snet_nb" in imported(PACKAGE / module)]
    assert not absolute, "write `from ..errors import X`"


def test_the_contract_of_the_rooms_is_kept() -> None:
    command = [str(Path(sys.executable).parent / "lint-imports"), "--no-logo", "--no-cache"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_importing_the_package_loads_nothing_heavy() -> None:
    code = "import json, sys, k8snet_nb; print(json.dumps(sorted({name.split('.')[0] for name in sys.modules})))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = set(json.loads(done.stdout))
    assert "k8snet_nb" in loaded
    assert not loaded & HEAVY
