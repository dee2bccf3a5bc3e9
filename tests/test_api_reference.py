"""The API reference: every public name has a docstring and its place on a page, and the pages fetch nothing."""

from __future__ import annotations

import inspect
import re
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest

import k8snet_nb as kn

ROOT = Path(__file__).resolve().parent.parent

FACADE = {
    "Cluster": "pods services endpoints nodes service node pod who translate compare walk journey drift findings "
    "record diff refresh network_model node_networks dns_replicas corefile send close",
    "Pod": "ip ips node host_network sandbox_pid netns interfaces veth run search_expansion resolve",
    "Service": "endpoints pods ports cluster_ip",
    "Node": "proxy_mode proxy_mode_evidence conntrack conntrack_usage conntrack_events flows network chain ladder ipvs",
}
"""What notebooks and users rely on; removing one is a breaking change."""

VALUES = {
    "explain.pod_network": "VethPair NoVethPair",
    "explain.names": "Query",
    "explain.resolution": "DnsAnswer",
    "explain.translation": "Translation Backend",
    "explain.usage": "ConntrackUsage",
    "explain.walk": "Walk",
    "explain.journey.values": "Journey",
    "explain.findings.finding": "Finding",
    "parse.conntrack_table": "ConntrackTable",
    "facts": "Evidence Fact FactRef",
    "errors": "K8snetError FactMissing FactBroken Refused NotFound",
}
"""What they get back, or raised, by module."""

OWN = [(kn.__name__, name) for name in kn.__all__]
MEMBERS = [(kn.__name__, f"{owner}.{name}") for owner, names in FACADE.items() for name in names.split()]
RETURNED = [(f"{kn.__name__}.{module}", name) for module, names in VALUES.items() for name in names.split()]


def documentation(module: str, name: str) -> str | None:
    owner = import_module(module)
    first, *rest = name.split(".")
    found = getattr(owner, first)
    for word in rest:
        found = inspect.getattr_static(found, word)
    if isinstance(found, property):
        found = found.fget
    return getattr(found, "__doc__", None)


@pytest.mark.parametrize(("module", "name"), OWN + MEMBERS + RETURNED)
def test_a_public_name_says_what_it_is(module: str, name: str) -> None:
    text = documentation(module, name)
    assert text, f"{module}: {name} has no docstring"
    assert not text.startswith(f"{name}("), "a docstring that dataclasses made says nothing"


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, str(ROOT / "tools/build_docs.py"), str(folder)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert not done.stderr, f"building says: {done.stderr[:2000]}"
    return folder


@pytest.mark.slow
def test_every_public_name_is_on_its_page(pages: Path) -> None:
    missing = []
    for module, name in OWN + MEMBERS + RETURNED:
        text = (pages / f"{module.replace('.', '/')}.html").read_text(encoding="utf-8")
        if f'id="{name}"' not in text and not (pages / module / f"{name}.html").is_file():
            missing.append(f"{module}: {name}")
    assert not missing


@pytest.mark.slow
def test_every_module_has_a_page_and_no_page_fetches_anything(pages: Path) -> None:
    package = ROOT / "k8snet_nb"
    modules = {path.relative_to(ROOT).with_suffix("") for path in package.rglob("*.py") if path.stem[:2] != "__"}
    assert [str(path) for path in modules if not (pages / path).with_suffix(".html").is_file()] == []
    for page in pages.rglob("*.html"):
        without_links = re.sub(r"<a\b[^>]*>", "", page.read_text(encoding="utf-8"))
        fetched = re.findall(r'(?:src|href)="https?://[^"]*"', without_links)
        assert not fetched, f"{page.name}: {fetched}"
