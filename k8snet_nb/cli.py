"""The command ``k8snet``: opens the lessons in JupyterLab; records, checks, cleans (:mod:`.record.commands`);
judges a cluster (:mod:`.cluster.check_command`); brings a recording to life (:mod:`.twin.commands`).

In a checkout the lessons are opened where they are. An installed package carries a copy of them, which is laid into
a folder of the user's; files that the user changed there are kept.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import shlex
import signal
import subprocess
import sys
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from urllib.parse import quote

from .cluster.check_arguments import add_check_cluster
from .errors import K8snetError
from .record import commands as recording
from .twin import commands as twins

__all__ = ["lay_lessons", "lessons_folder", "main"]

FIRST = "00_start_here.ipynb"
MANIFEST = ".k8snet-lessons.json"
PACKAGE = Path(__file__).resolve().parent


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns its exit status (2 for what the user can put right)."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    words, further = (words[: words.index("--")], words[words.index("--") + 1 :]) if "--" in words else (words, [])
    options = _parser().parse_args(words)
    try:
        if options.command == "check-cluster":
            from .cluster.check_command import check_cluster  # pandas: no other command waits for it

            return check_cluster(options)
        if options.command == "twin" and options.verb == "verify":
            from .cluster.verify_command import verify_twin

            return verify_twin(options)
        done = recording.run_command(options)
        if done is None:
            done = twins.run_command(options)
        if done is not None:
            return done
        root, first = lessons_folder(options.dir)
        environment = _environment(options.source)
        command = lab_command(root, first, browser=not options.no_browser, further=further)
        if options.dry_run:
            print(f"cd {shlex.quote(str(root))} && {shlex.join(command)}")
            return 0
        return _run(command, root, environment)
    except BrokenPipeError:  # whoever read the output (`| head`) has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except (K8snetError, OSError) as error:
        print(f"k8snet: {error}", file=sys.stderr)
        return 2


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="k8snet", description="Lessons on Kubernetes networking, in JupyterLab.")
    parser.add_argument("--version", action="version", version=f"k8snet {_version()}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    lab = commands.add_parser(
        "lab",
        help="open JupyterLab at the first lesson",
        description="Open JupyterLab at the first lesson.",
        epilog="Arguments after -- go to JupyterLab as they are: k8snet lab -- --port 9000",
    )
    lab.add_argument("--no-browser", action="store_true", help="print the address instead of opening it (over ssh)")
    lab.add_argument("--source", metavar="PATH", help="what kn.open() opens: a recording, live, node, twin, twin:NAME")
    lab.add_argument(
        "--dir",
        type=Path,
        metavar="DIR",
        help="where the lessons go; by default a checkout's own, else ./k8snet-lessons",
    )
    lab.add_argument("--dry-run", action="store_true", help="lay the lessons, print the command, do not start it")
    recording.add_commands(commands)
    add_check_cluster(commands)
    twins.add_commands(commands)
    return parser


def _version() -> str:
    try:
        return version("k8snet_nb")
    except PackageNotFoundError:
        return "(not installed)"


def lessons_folder(wanted: Path | None) -> tuple[Path, str]:
    """The folder that JupyterLab serves, and the first lesson's path in it (with slashes).

    Raises K8snetError when neither the checkout nor the package holds lessons.
    """
    checkout = PACKAGE.parent
    in_checkout = (checkout / "pyproject.toml").is_file() and (checkout / "notebooks" / FIRST).is_file()
    if in_checkout and wanted is None:
        return checkout, f"notebooks/{FIRST}"
    origin = checkout / "notebooks" if in_checkout else PACKAGE / "notebooks"
    if not (origin / FIRST).is_file():
        raise K8snetError(f"no lessons in {origin}: {FIRST} is missing. Install k8snet_nb anew, or run from a checkout")
    folder = (wanted or Path("k8snet-lessons")).resolve()
    for line in lay_lessons(origin, folder):
        print(f"k8snet: {line}", file=sys.stderr)
    return folder, FIRST


def lay_lessons(origin: Path, folder: Path) -> list[str]:
    """Copy the lessons of ``origin`` into ``folder``; returns what the user should be told.

    A file that the user changed (it is neither what was laid before nor what would be laid now) is kept. What was
    laid is remembered by its digest in a small file beside the lessons.
    """
    folder.mkdir(parents=True, exist_ok=True)
    laid = _manifest(folder)
    kept, new = [], []
    for source in sorted(
        path for path in origin.rglob("*") if path.is_file() and ".ipynb_checkpoints" not in str(path)
    ):
        name = source.relative_to(origin).as_posix()
        content, target = source.read_bytes(), folder / name
        if target.exists() and _digest(target.read_bytes()) not in (laid.get(name), _digest(content)):
            kept.append(name)
            continue
        if not target.exists() or target.read_bytes() != content:
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(content)
            new.append(name)
        laid[name] = _digest(content)
    (folder / MANIFEST).write_text(json.dumps(laid, indent=1, sort_keys=True) + "\n", encoding="utf-8")
    told = [f"lessons laid into {folder}: {', '.join(new)}"] if new else []
    if kept:
        told.append(f"kept your changed {', '.join(kept)} in {folder}; move them away to get this version's")
    return told


def _manifest(folder: Path) -> dict[str, str]:
    """What was laid before. Without a readable list every file that differs counts as the user's."""
    try:
        listed = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return {str(name): str(digest) for name, digest in listed.items()} if isinstance(listed, dict) else {}


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def lab_command(root: Path, first: str, *, browser: bool = True, further: Sequence[str] = ()) -> list[str]:
    """The command that starts JupyterLab in ``root`` at the lesson ``first``, asking nobody outside for news.

    The server stays on this machine (127.0.0.1) and asks for its token, for root too.
    """
    command = [sys.executable, "-m", "jupyterlab", f"--ServerApp.root_dir={root}"]
    command += [f"--LabApp.default_url=/lab/tree/{quote(first)}"]
    command += ["--LabApp.news_url=None"]
    command += ["--LabApp.check_for_updates_class=jupyterlab.handlers.announcements.NeverCheckForUpdate"]
    if hasattr(os, "geteuid") and os.geteuid() == 0:  # in containers, and where a node's kernel is read
        command += ["--allow-root"]
    return [*command, *([] if browser else ["--no-browser"]), *further]


def _environment(source: str | None) -> dict[str, str]:
    """This process's environment, with the source that the lessons' ``kn.open()`` opens, if one was named."""
    environment = dict(os.environ)
    if source is None:
        return environment
    if source not in ("live", "node", "twin") and not source.startswith("twin:"):
        path = Path(source).expanduser().resolve()
        if not path.exists():
            raise K8snetError(f"no recording at {path}. Name a recording's folder or archive, or live, node or twin")
        source = str(path)
    environment["K8SNET_SOURCE"] = source
    return environment


def _run(command: list[str], root: Path, environment: dict[str, str]) -> int:
    """Become JupyterLab where the system can do that, so that signals and ctrl-C are its own; else wait for it."""
    os.chdir(root)
    sys.stdout.flush()
    if os.name != "nt":
        os.execve(command[0], command, environment)  # noqa: S606  (no shell is wanted)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # ctrl-C reaches JupyterLab too, which asks before it stops
    return subprocess.call(command, env=environment)


if __name__ == "__main__":
    sys.exit(main())
