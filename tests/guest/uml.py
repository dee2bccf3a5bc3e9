"""A kernel of one's own for a few seconds: Debian's User-Mode Linux, running a Python script as its only work.

The guest sees the host's files read-only (hostfs), so the interpreter and its packages are the host's own. What the
script prints comes back as text; /run in the guest is writable. Nothing outlives :func:`run`, whatever happens in it.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Mapping
from pathlib import Path

__all__ = ["GuestError", "modules_in_order", "require", "run", "unavailable"]

MODULES = Path("/usr/lib/uml/modules")

INIT = """#!/bin/sh
export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/run TMPDIR=/run LC_ALL=C.UTF-8
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t tmpfs tmpfs /run
mkdir /run/work
mount -t hostfs -o {work} none /run/work
exec {python} {boot} {python} {work}
"""


class GuestError(RuntimeError):
    """The guest did not start, its script failed, or it took too long; the message holds what it said."""


def unavailable() -> str | None:
    """Why no guest can be started here; None when one can."""
    if shutil.which("linux.uml") is None:
        return "no linux.uml on PATH (Debian package user-mode-linux)"
    if not list(MODULES.glob("*/modules.dep")):
        return f"no modules of User-Mode Linux under {MODULES}"
    return None


def require(*commands: str) -> None:
    """Skip the running test where no guest can be started or a command is lacking; fail it where nothing may be."""
    from needs import lacking, stop  # here: this file is a program too, run without pytest

    why = unavailable()
    stop([*([why] if why else []), *lacking(commands=commands)])


def modules_in_order(names: Iterable[str]) -> list[str]:
    """Files of the named modules with all that they need, in the order in which they can be loaded."""
    table = max(MODULES.glob("*/modules.dep"))
    needs: dict[str, list[str]] = {}
    path_of: dict[str, str] = {}
    for line in table.read_text().splitlines():
        path, _, rest = line.partition(":")
        needs[path] = rest.split()
        path_of[Path(path).name.split(".")[0].replace("-", "_")] = path
    ordered: list[str] = []
    for name in names:
        if name not in path_of:
            continue  # built in, or not of this kernel: then the script that needs it fails, and says at what
        # modules.dep lists the nearest need first, so its reverse is an order of loading
        for path in [*reversed(needs[path_of[name]]), path_of[name]]:
            full = str(table.parent / path)
            if full not in ordered:
                ordered.append(full)
    return ordered


def run(
    script: str,
    modules: Iterable[str] = (),
    files: Mapping[str, str] | None = None,
    timeout: float = 60.0,
    memory: str = "256M",
) -> str:
    """Boots a guest, loads ``modules``, runs ``script`` (Python) in it, and gives back what it printed.

    ``files`` stand in the guest's /run/work. ``timeout`` in seconds is for all of it. Raises GuestError with the
    guest's own words when the script did not end with status 0.
    """
    with tempfile.TemporaryDirectory(prefix="k8snet-uml-") as name:
        work = Path(name)
        for file, content in {**(files or {}), "script.py": script}.items():
            (work / file).write_text(content)
        (work / "modules").write_text("\n".join(modules_in_order(modules)))
        init = work / "init"
        boot = Path(__file__).with_name("boot.py")
        init.write_text(INIT.format(work=work, python=sys.executable, boot=boot))
        init.chmod(0o755)
        console = _start(work, init, timeout, memory)
        status = (work / "status").read_text() if (work / "status").exists() else "no status"
        output = (work / "output").read_text(errors="replace") if (work / "output").exists() else ""
    if status != "0":
        raise GuestError(f"the guest's script ended with {status}\n--- output\n{output}\n--- console\n{console}")
    return output


def _start(work: Path, init: Path, timeout: float, memory: str) -> str:
    command = [
        "linux.uml",
        f"mem={memory}",
        "root=/dev/root",
        "rootfstype=hostfs",
        "rootflags=/",
        "ro",
        "quiet",
        "loglevel=3",
    ]
    command += [f"init={init}", f"uml_dir={work / 'uml'}", "umid=guest", "con=null", "con0=null,fd:1", "panic=1"]
    guest = subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        start_new_session=True,
    )
    try:
        return guest.communicate(timeout=timeout)[0].decode(errors="replace")
    except subprocess.TimeoutExpired:
        os.killpg(guest.pid, signal.SIGKILL)
        return guest.communicate()[0].decode(errors="replace") + f"\n(killed after {timeout} s)"
    finally:
        # the guest's own processes are the host's too, in the group of the first
        with contextlib.suppress(ProcessLookupError):
            os.killpg(guest.pid, signal.SIGKILL)
