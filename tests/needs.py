"""What a test needs from the machine, said in one way.

::

    from needs import need

    pytestmark = need(root=True, commands=["ip", "conntrack"], kernel=["nf_conntrack"])

Where something is not to be had the test is skipped and says what. With ``K8SNET_REQUIRE_ALL=1`` (as in CI) it fails
instead, so that a check cannot fall silent. Nothing here changes the machine: a kernel feature counts as present
when it is loaded, built in, or a module file that can be loaded.
"""

from __future__ import annotations

import gzip
import importlib.util
import os
import platform
import re
import shutil
import sys
from collections.abc import Sequence
from functools import cache
from pathlib import Path

import pytest

__all__ = ["chromium", "lacking", "need", "required", "stop"]

Names = str | Sequence[str]


def need(
    *,
    root: bool = False,
    linux: bool = False,
    commands: Names = (),
    kernel: Names = (),
    modules: Names = (),
    chromium: bool = False,
) -> pytest.MarkDecorator:
    """A mark for a test, a class or ``pytestmark``; looked at when the test is about to start.

    ``commands`` are looked for on PATH (sbin folders included), ``kernel`` are names of kernel modules or
    features built in, ``modules`` are importable Python modules.
    """
    return pytest.mark.needs(
        root=root,
        linux=linux or root or bool(kernel),
        commands=_names(commands),
        kernel=_names(kernel),
        modules=_names(modules),
        chromium=chromium,
    )


def required() -> bool:
    """Whether what is lacking is a failure here."""
    return os.environ.get("K8SNET_REQUIRE_ALL", "") not in ("", "0")


def stop(reasons: Sequence[str]) -> None:
    """Skip the running test for these reasons, or fail it where nothing may be lacking. No reasons: go on."""
    if not reasons:
        return
    reason = f"needs {', '.join(reasons)}"
    if required():
        pytest.fail(f"{reason}; K8SNET_REQUIRE_ALL makes this a failure", pytrace=False)
    pytest.skip(reason)


def lacking(
    *,
    root: bool = False,
    linux: bool = False,
    commands: Sequence[str] = (),
    kernel: Sequence[str] = (),
    modules: Sequence[str] = (),
    chromium: bool = False,
) -> list[str]:
    """What of this the machine does not have, in words; empty when a test may run."""
    if linux and sys.platform != "linux":
        return ["Linux"]
    found = [f"command {name}" for name in commands if not _command(name)]
    found += [f"kernel feature {name}" for name in kernel if not _kernel(name)]
    found += [f"Python module {name}" for name in modules if importlib.util.find_spec(name) is None]
    if root and not _is_root():
        found.insert(0, "root")
    if chromium and not _chromium():
        found.append("chromium (CHROMIUM names its program)")
    return found


def chromium() -> str:
    """The path of a Chromium or Chrome; use it in tests marked ``need(chromium=True)``."""
    path = _chromium()
    if path is None:
        raise FileNotFoundError("no chromium on PATH, and CHROMIUM does not name one")
    return path


def _names(names: Names) -> tuple[str, ...]:
    return (names,) if isinstance(names, str) else tuple(names)


def _is_root() -> bool:
    return hasattr(os, "geteuid") and os.geteuid() == 0


def _command(name: str) -> str | None:
    sbin = os.pathsep.join(["/usr/local/sbin", "/usr/sbin", "/sbin"])
    return shutil.which(name, path=os.environ.get("PATH", os.defpath) + os.pathsep + sbin)


def _chromium() -> str | None:
    named = os.environ.get("CHROMIUM")
    if named:
        return shutil.which(named)
    found = (shutil.which(name) for name in ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable"))
    return next((path for path in found if path), None)


@cache
def _kernel(name: str) -> bool:
    name = name.replace("-", "_")
    return Path("/sys/module", name).exists() or name in _modules_on_disk() or name.upper() in _built_in()


@cache
def _modules_on_disk() -> frozenset[str]:
    names: set[str] = set()
    for listing in ("modules.builtin", "modules.dep"):
        path = Path("/lib/modules", platform.release(), listing)
        if path.is_file():
            stems = (line.split(":")[0].rsplit("/", 1)[-1] for line in path.read_text().splitlines())
            names.update(stem.split(".ko")[0].replace("-", "_") for stem in stems)
    return frozenset(names)


@cache
def _built_in() -> frozenset[str]:
    """Options that the running kernel was built with: the modules among them are called as the options are."""
    packed, plain = Path("/proc/config.gz"), Path(f"/boot/config-{platform.release()}")
    text = gzip.decompress(packed.read_bytes()) if packed.exists() else plain.read_bytes() if plain.exists() else b""
    return frozenset(re.findall(r"^CONFIG_(\w+)=y$", text.decode(errors="replace"), re.MULTILINE))
