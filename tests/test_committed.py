"""What must not be in any committed file."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest
from needs import stop

ROOT = Path(__file__).resolve().parent.parent
HERE = Path(__file__).relative_to(ROOT).as_posix()

FORBIDDEN = {
    "a host that packages are fetched from": r"(pypi|pythonhosted|npmjs|deb\.debian|anaconda)\.(org|com)|/simple/",
    "a path of somebody's machine": r"(?<![\w.})>-])/(work|root|home/[a-z]+|Users/[a-z]+)/",
    "work that was left undone": r"\b(TODO|FIXME|XXX)\b",
}


def committed() -> list[str]:
    if shutil.which("git") is None or not (ROOT / ".git").exists():
        stop(["a git checkout to list"])
    done = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True)
    return [name for name in done.stdout.split("\0") if name and (ROOT / name).is_file()]


@pytest.mark.parametrize("what", FORBIDDEN)
def test_no_committed_file_names(what: str) -> None:
    found = []
    for name in committed():
        if name == HERE or name.startswith("k8snet_nb/data/"):  # a recording says what its cluster said
            continue
        text = (ROOT / name).read_bytes().decode("utf-8", errors="replace")
        for number, line in enumerate(text.splitlines(), 1):
            if match := re.search(FORBIDDEN[what], line):
                found.append(f"{name}:{number}: {match[0]}")
    assert not found, f"{what}:\n" + "\n".join(found)


def test_files_of_editors_builds_and_caches_are_not_committed() -> None:
    assert not [n for n in committed() if re.search(r"__pycache__|\.pyc$|\.ipynb_checkpoints|^\.venv/|^artifacts/", n)]
