"""Running a program as an ordinary user without any capability, by root, for tests of what such a user can do."""

from __future__ import annotations

import os
import shlex
import stat
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import k8snet_nb

__all__ = ["GROUP", "USER", "command"]

USER = GROUP = 65534
_PACKAGE = Path(str(k8snet_nb.__file__)).resolve().parent


def command(argv: Sequence[str], home: Path, more: Mapping[str, str] | None = None, first: str = "") -> list[str]:
    """The command that runs ``argv`` as nobody, with a home of its own; ``first``: shell lines that root runs before.

    Where this Python, its libraries or the package lie in a folder that others may not enter, they are shown at the
    same place in a mount namespace of the command's own.
    """
    lines = [first, *_shown([Path(sys.base_prefix), Path(sys.prefix), _PACKAGE])]
    as_user = ["setpriv", f"--reuid={USER}", f"--regid={GROUP}", "--clear-groups", "--bounding-set=-all"]
    as_user += ["--inh-caps=-all"]
    variables = {"PATH": os.environ["PATH"] + ":/usr/sbin:/sbin", "HOME": str(home), "PYTHONDONTWRITEBYTECODE": "1"}
    variables |= {"K8SNET_TWINS": str(home / "twins"), "PYTHONPATH": str(_PACKAGE.parent), **(more or {})}
    spelt = ["env", "-i", *(f"{name}={value}" for name, value in variables.items())]
    return ["unshare", "--mount", "sh", "-ec", "\n".join([*lines, shlex.join(["exec", *as_user, *spelt, *argv])])]


def _shown(paths: Sequence[Path]) -> list[str]:
    closed: dict[Path, list[Path]] = {}
    for path in paths:
        shut = next((one for one in reversed([path, *path.parents]) if not one.stat().st_mode & stat.S_IXOTH), None)
        if shut is not None:
            closed.setdefault(shut, []).append(path)
    lines = []
    for shut, inside in closed.items():
        lines.append("mount -t tmpfs -o mode=755 none /mnt")
        for number, path in enumerate(inside):
            lines.append(f"mkdir /mnt/{number}; mount --rbind {shlex.quote(str(path))} /mnt/{number}")
        lines.append(f"mount -t tmpfs -o mode=755 none {shlex.quote(str(shut))}")
        for number, path in enumerate(inside):
            there = shlex.quote(str(path))
            lines.append(f"mkdir -p {there}; mount --move /mnt/{number} {there}")
    return lines
