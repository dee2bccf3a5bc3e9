"""The wheel, built and installed in a clean environment with no checkout in sight."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import sysconfig
import venv
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("dist")
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    (built,) = folder.glob("*.whl")
    return built


def own_files(folder: Path) -> set[str]:
    skipped = {"__pycache__", ".ipynb_checkpoints"}
    found = (path for path in folder.rglob("*") if path.is_file() and not skipped & set(path.parts))
    return {path.relative_to(folder).as_posix() for path in found}


def test_it_holds_every_recorded_fact_and_every_lesson(wheel: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    assert len(names) == len(set(names))
    assert {f"k8snet_nb/{name}" for name in own_files(ROOT / "k8snet_nb")} <= set(names)
    assert {f"k8snet_nb/notebooks/{name}" for name in own_files(ROOT / "notebooks")} <= set(names)
    assert "k8snet_nb/py.typed" in names
    assert not [name for name in names if name.startswith(("tests/", "tools/", "benchmarks/"))]


@pytest.fixture(scope="module")
def python(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A fresh environment with the wheel in it. Its dependencies are this environment's, by a path file: they are the
    locked ones, and nothing is fetched. The checkout is not on that path, or the test would prove nothing.
    """
    folder = tmp_path_factory.mktemp("clean") / "venv"
    venv.create(folder, with_pip=False, symlinks=os.name != "nt")
    program = folder / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    ask = "import sysconfig; print(sysconfig.get_path('purelib'))"
    done = subprocess.run([program, "-c", ask], capture_output=True, text=True, check=True)
    packages = Path(done.stdout.strip())
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(packages)
    # An entry of a path file is searched for modules, but the path files in it (the editable checkout) are not read.
    (packages / "dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n")
    return program


def run(python: Path, folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "K8SNET_SOURCE")}
    command = [str(python), *arguments]
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)


def test_it_opens_its_own_recording_without_a_checkout(python: Path, tmp_path: Path) -> None:
    code = "import k8snet_nb as kn; cluster = kn.open(); print(kn.__file__); print(len(cluster.pods()))"
    done = run(python, tmp_path, "-c", code)
    assert done.returncode == 0, done.stderr
    where, pods = done.stdout.splitlines()
    assert not Path(where).is_relative_to(ROOT)
    assert int(pods) > 10


def test_it_lays_its_lessons_and_starts_jupyterlab_there(python: Path, tmp_path: Path) -> None:
    done = run(python, tmp_path, "-m", "k8snet_nb.cli", "lab", "--dry-run", "--no-browser")
    assert done.returncode == 0, done.stderr
    assert "default_url=/lab/tree/00_start_here.ipynb" in done.stdout
    laid = own_files(tmp_path / "k8snet-lessons")
    assert own_files(ROOT / "notebooks") <= laid


def test_its_metadata_names_the_command_and_the_linux_only_dependency(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        texts = {
            Path(n).name: archive.read(n).decode()
            for n in archive.namelist()
            if ".dist-info/" in n and "LICENSE" not in n
        }
    assert "k8snet = k8snet_nb.cli:main" in texts["entry_points.txt"]
    (line,) = [line for line in texts["METADATA"].splitlines() if line.startswith("Requires-Dist: pyroute2")]
    assert "sys_platform" in line


def test_it_tells_jupyterlab_to_ask_nobody_for_news(wheel: Path) -> None:
    name = "share/jupyter/lab/settings/overrides.d/k8snet_nb.json"
    with zipfile.ZipFile(wheel) as archive:
        (member,) = [entry for entry in archive.namelist() if entry.endswith(f".data/data/{name}")]
        settings = json.loads(archive.read(member))["@jupyterlab/apputils-extension:notification"]
    assert settings == {"checkForUpdates": False, "fetchNews": "false"}
    assert Path(sys.prefix, name).is_file(), "the editable installation brings it too: make setup"


def test_the_source_distribution_holds_what_a_build_needs(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "hatchling", "build", "-t", "sdist", "-d", str(tmp_path)]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    (built,) = tmp_path.glob("*.tar.gz")
    shutil.unpack_archive(built, tmp_path / "unpacked", filter="data")
    (folder,) = (tmp_path / "unpacked").iterdir()
    assert own_files(ROOT / "k8snet_nb") <= own_files(folder / "k8snet_nb")
    assert own_files(ROOT / "notebooks") <= own_files(folder / "notebooks")
    assert own_files(ROOT / "tests") <= own_files(folder / "tests")
