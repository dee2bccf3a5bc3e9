"""A kernel of one's own for a few seconds: a guest of the twin, running a Python script as its only work.

The guest sees the host's files read-only (hostfs), so the interpreter and its packages are the host's own. What the
script prints comes back as text; /run in the guest is writable. Nothing outlives :func:`run`, whatever happens in it.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping

from k8snet_nb.errors import GuestError
from k8snet_nb.twin.guest.guest import Guest, unavailable

__all__ = ["GuestError", "require", "run"]


def require(*commands: str) -> None:
    """Skip the running test where no guest can be started or a command is lacking; fail it where nothing may be."""
    from needs import lacking, stop  # here: on the path only once pytest has read its options

    why = unavailable()
    stop([*([why] if why else []), *lacking(commands=commands)])


def run(script: str, modules: Iterable[str] = (), files: Mapping[str, str] | None = None, timeout: float = 60.0) -> str:
    """Boots a guest, loads ``modules``, runs ``script`` (Python) in it, and gives back what it printed.

    ``files`` stand in the guest's /run/work. ``timeout`` in seconds is the script's. Raises GuestError with the
    guest's own words when the script did not end with status 0.
    """
    with Guest(modules) as guest:
        guest.run(["mkdir", "/run/work"])
        guest.write({f"/run/work/{name}": text for name, text in {**(files or {}), "script.py": script}.items()})
        done = guest.run([sys.executable, "/run/work/script.py"], seconds=timeout)
        if done.status != 0:
            raise GuestError(f"the guest's script ended with {done.status}\n{done.out}\n{done.err}\n{guest.console()}")
    return done.out
