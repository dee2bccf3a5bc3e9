"""Running things inside a network namespace of the twin: in a forked child, so that the caller stays where it is."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import traceback
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any

from ..errors import K8snetError, TwinError
from .spaces import enter_network, fork_at

__all__ = ["ENVIRONMENT", "bury", "child", "in_network", "run_tool"]

ENVIRONMENT = {"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C.UTF-8"}
_MOST = 4096


def run_tool(argv: tuple[str, ...], stdin: str = "", seconds: float = 60.0) -> tuple[int, str]:
    """Run a tool with this input: its status, and what it said on standard error (127: there is no such tool)."""
    try:
        done = subprocess.run(
            argv, input=stdin.encode(), capture_output=True, timeout=seconds, env=ENVIRONMENT, check=False, cwd="/"
        )
    except FileNotFoundError:
        return 127, f"{argv[0]} is not installed on this machine"
    except (OSError, subprocess.TimeoutExpired) as error:
        return 126, f"{argv[0]}: {error}"
    said = (done.stderr or done.stdout).decode("utf-8", "replace")
    return done.returncode, said[-_MOST:]


def child(work: Callable[[], Any], pid: int | None = None) -> int:
    """Fork a child that does this and ends; never returns in the child. Returns its pid; see fork_at for ``pid``."""
    sys.stdout.flush()
    sys.stderr.flush()
    number = fork_at(pid)
    if number:
        return number
    status = 1
    try:
        work()
        status = 0
    except K8snetError as error:
        print(f"k8snet twin: {error}", file=sys.stderr, flush=True)
    except BaseException:  # noqa: BLE001 - a child that would go on as its parent does harm
        traceback.print_exc()
        sys.stderr.flush()
    finally:
        os._exit(status)


def bury() -> None:
    """Take note of children that have ended, so that nothing is left of them."""
    with suppress(ChildProcessError):
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass


def in_network(pid: int | None, work: Callable[[], Mapping[str, Any]], seconds: float = 120.0) -> dict[str, Any]:
    """The answer of ``work``, done in the network namespace of process ``pid`` (None: this one); JSON-able.

    Raises TwinError with the reason when it failed.
    """
    reading, writing = os.pipe()

    def there() -> None:
        os.close(reading)
        with os.fdopen(writing, "w") as answer:
            try:
                if pid is not None:
                    enter_network(pid)
                json.dump(dict(work()), answer)
            except (K8snetError, OSError) as error:
                json.dump({"error": str(error)}, answer)
            except (LookupError, TypeError, ValueError) as error:
                json.dump({"error": f"{type(error).__name__}: {error}"}, answer)

    number = child(there)
    os.close(writing)
    with os.fdopen(reading) as answer:
        text = answer.read()
    os.waitpid(number, 0)
    found = json.loads(text) if text else {"error": "it ended without an answer"}
    if "error" in found:
        raise TwinError(found["error"])
    return dict(found)
