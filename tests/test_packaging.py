"""pyproject.toml, environment.yml and requirements.lock say the same."""

from __future__ import annotations

import importlib.metadata
import re
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

import k8snet_nb

ROOT = Path(__file__).resolve().parent.parent
CONDA_NAMES = {"python-kubernetes": "kubernetes"}
OWN = {"python", "pip"}
"""What a conda environment needs beside the package's dependencies."""


@pytest.fixture(scope="module")
def project() -> dict[str, Any]:
    return tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]


@pytest.fixture(scope="module")
def environment() -> dict[str, Any]:
    loaded = yaml.safe_load((ROOT / "environment.yml").read_text(encoding="utf-8"))
    assert isinstance(loaded, dict)
    return loaded


def as_requirement(text: str) -> Requirement:
    requirement = Requirement(re.sub(r"(?<![=<>!~])=(?!=)", "==", text))
    requirement.name = canonicalize_name(CONDA_NAMES.get(requirement.name, requirement.name))
    return requirement


def named(requirements: list[Requirement]) -> dict[str, tuple[str, str]]:
    return {canonicalize_name(r.name): (str(r.specifier), str(r.marker or "")) for r in requirements}


def split(environment: dict[str, Any]) -> tuple[list[str], list[str]]:
    conda = [item for item in environment["dependencies"] if isinstance(item, str)]
    (pip,) = [item["pip"] for item in environment["dependencies"] if isinstance(item, dict)]
    return conda, pip


def test_the_conda_environment_names_the_same_dependencies_and_bounds(
    project: dict[str, Any], environment: dict[str, Any]
) -> None:
    conda, pip = split(environment)
    there = [as_requirement(text) for text in [*conda, *(line for line in pip if not line.startswith("-"))]]
    there = [requirement for requirement in there if requirement.name not in OWN]
    assert named(there) == named([Requirement(text) for text in project["dependencies"]])


def test_only_what_conda_cannot_say_comes_through_pip(project: dict[str, Any], environment: dict[str, Any]) -> None:
    conda, pip = split(environment)
    with_marker = {r.name for r in map(Requirement, project["dependencies"]) if r.marker}
    assert pip[-1] == "-e ."
    assert {Requirement(line).name for line in pip[:-1]} == with_marker
    assert "pip" in conda


def test_the_conda_environment_is_pinned_to_a_minor_python_that_the_package_allows(
    project: dict[str, Any], environment: dict[str, Any]
) -> None:
    (python,) = [text for text in split(environment)[0] if text.startswith("python=")]
    version = python.removeprefix("python=")
    assert re.fullmatch(r"3\.\d+", version)
    assert Requirement(f"python{project['requires-python']}").specifier.contains(version)
    assert environment["name"] == project["name"]
    assert environment["channels"][0] == "conda-forge"


def test_the_package_says_the_version_that_it_has(project: dict[str, Any]) -> None:
    assert k8snet_nb.__version__ == project["version"] == importlib.metadata.version("k8snet_nb")


def test_no_folder_hides_the_environment_from_binder() -> None:
    assert not (ROOT / "binder").exists()
    assert not (ROOT / ".binder").exists()


def locked() -> dict[str, list[str]]:
    """Name to versions of the lock: several where Pythons or platforms differ."""
    versions: dict[str, list[str]] = {}
    for line in (ROOT / "requirements.lock").read_text(encoding="utf-8").splitlines():
        if match := re.match(r"([A-Za-z0-9._-]+)==([^ ;]+)", line):
            versions.setdefault(canonicalize_name(match[1]), []).append(match[2])
    return versions


def test_the_lock_satisfies_every_dependency_and_what_the_build_needs(project: dict[str, Any]) -> None:
    versions = locked()
    for text in [*project["dependencies"], *project["optional-dependencies"]["test"], "hatchling", "editables"]:
        requirement = Requirement(text)
        found = versions.get(canonicalize_name(requirement.name), [])
        assert found, f"{text} is not locked: make lock"
        assert all(requirement.specifier.contains(version) for version in found), f"{text}: locked {found}"


def test_every_locked_package_has_hashes_and_no_address() -> None:
    text = (ROOT / "requirements.lock").read_text(encoding="utf-8")
    entries = re.split(r"\n(?=[A-Za-z0-9])", text)
    packages = [entry for entry in entries if "==" in entry]
    assert len(packages) > 50
    assert all("--hash=sha256:" in entry for entry in packages)
    assert "://" not in text
    assert not re.search(r"^--?(?!hash)[a-z]", text, re.MULTILINE), "options name an index or a folder"
