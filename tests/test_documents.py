"""What the pages say is there: links lead somewhere, commands parse, lessons are listed, deployments fit together."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import Any

import pytest
import yaml

from k8snet_nb import cli

ROOT = Path(__file__).resolve().parent.parent
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").glob("*.md"))]
LESSONS = sorted(path.name for path in (ROOT / "notebooks").glob("*.ipynb"))

CHART = {
    "image": {"name", "tag", "pullPolicy", "pullSecrets"},
    "defaultUrl": None,
    "cpu": {"limit", "guarantee"},
    "memory": {"limit", "guarantee"},
    "storage": {"type", "capacity", "dynamic", "static", "homeMountPath", "extraLabels", "extraVolumes",
                "extraVolumeMounts"},
    "lifecycleHooks": {"postStart", "preStop"},
    "profileList": None,
    "extraEnv": None,
    "serviceAccountName": None,
    "networkPolicy": {"egressAllowRules"},
}  # fmt: skip
"""Of the chart's values.schema.yaml, below `singleuser`: what we use, or might. Unknown keys are refused by helm."""

SPAWNER = {"uid", "args", "allow_privilege_escalation", "extra_pod_config", "container_security_context",
           "environment", "lifecycle_hooks"}  # fmt: skip
"""Traits of KubeSpawner that our profile sets; others would be ignored."""


def fenced(page: Path, *languages: str) -> str:
    blocks = re.findall(r"^```(\w*)\n(.*?)^```", page.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    return "\n".join(text for language, text in blocks if language in languages).replace("\\\n", " ")


def anchors(page: Path) -> set[str]:
    heads = re.findall(r"^#+ (.*)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", head.lower()).replace(" ", "-") for head in heads}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_within_the_project_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\((?!https?:)([^)\s]+)\)", page.read_text(encoding="utf-8")):
        name, _, anchor = target.partition("#")
        found = (page.parent / name).resolve() if name else page
        assert found.exists(), target
        assert not anchor or anchor in anchors(found), target


def commands() -> list[str]:
    lines = [line.strip() for page in PAGES for line in fenced(page, "sh").splitlines()]
    parts = [part.strip() for line in lines for part in line.split("#")[0].split("&&")]
    return sorted({part for part in parts if part.startswith(("k8snet ", "make "))})


@pytest.mark.parametrize("command", commands())
def test_commands_are_as_the_program_takes_them(command: str) -> None:
    program, *words = shlex.split(command)
    if program == "make":
        makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
        assert re.search(rf"^{re.escape(words[0])}:", makefile, re.MULTILINE)
    else:
        cli._parser().parse_args(words)


@pytest.mark.parametrize("page", ["README.md", "docs/workshop.md", "notebooks/00_start_here.ipynb"])
def test_every_lesson_is_listed(page: str) -> None:
    text = (ROOT / page).read_text(encoding="utf-8")
    assert [name for name in LESSONS if name not in text and not page.endswith(name)] == []


def hub_values() -> dict[str, Any]:
    loaded: dict[str, Any] = yaml.safe_load((ROOT / "deploy/jupyterhub/values.yaml").read_text(encoding="utf-8"))
    assert set(loaded) == {"singleuser"}
    return dict(loaded["singleuser"])


def test_the_hubs_values_and_those_on_the_page_have_keys_of_the_chart() -> None:
    shown = yaml.safe_load(fenced(ROOT / "docs/workshop.md", "yaml"))["singleuser"]
    for values in (hub_values(), shown):
        for key, value in values.items():
            assert key in CHART
            if CHART[key] is not None:
                assert set(value) <= CHART[key], key


def test_the_twins_profile_has_what_a_twin_needs_and_no_more() -> None:
    plain, twin = hub_values()["profileList"]
    assert plain["default"]
    assert "kubespawner_override" not in plain
    override = twin["kubespawner_override"]
    assert set(override) <= SPAWNER
    security = override["container_security_context"]
    assert override["extra_pod_config"] == {"hostUsers": False}
    assert set(security["capabilities"]["add"]) == {"SYS_ADMIN", "NET_ADMIN"}
    assert security["procMount"] == "Unmasked"
    assert override["allow_privilege_escalation"], "refused by Kubernetes beside SYS_ADMIN"


def test_the_hooks_commands_are_as_the_program_takes_them() -> None:
    values = hub_values()
    hooks = [values["lifecycleHooks"], values["profileList"][1]["kubespawner_override"]["lifecycle_hooks"]]
    parsed = 0
    for hook in hooks:
        _, _, script = hook["postStart"]["exec"]["command"]
        for command in re.findall(r"k8snet ([^;|>]*)", script):
            options = cli._parser().parse_args(shlex.split(command.replace("$HOME", "home").replace("$RECORDING", "")))
            parsed += options.command in ("lab", "twin")
    assert parsed == 3


def packages(dockerfile: str) -> set[str]:
    text = (ROOT / dockerfile).read_text(encoding="utf-8").replace("\\\n", " ")
    (listed,) = re.findall(r"apt-get install -y --no-install-recommends ([^&]*)", text)
    return set(listed.split())


def test_the_images_have_the_same_tools() -> None:
    lines = (ROOT / "apt.txt").read_text(encoding="utf-8").splitlines()
    listed = {line.strip() for line in lines if line.strip() and not line.startswith("#")}
    assert packages("deploy/twin/Dockerfile") - listed == {"make", "user-mode-linux"}
    assert listed < packages("deploy/twin/Dockerfile")
    ci = (ROOT / ".ci/run").read_text(encoding="utf-8")
    assert [name for name in listed if name not in ci] == []


def test_an_image_is_built_without_what_a_checkout_collects() -> None:
    ignored = (ROOT / ".dockerignore").read_text(encoding="utf-8").split()
    assert {".git", ".venv", "site", "artifacts"} <= set(ignored)
