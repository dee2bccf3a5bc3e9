"""Two readings side by side, and drift on a cluster that changes while it is read."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import pytest

import k8snet_nb as kn
from k8snet_nb.facts import FactRef
from k8snet_nb.sources.opening import BUNDLED
from k8snet_nb.sources.recorded import open_recording


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    return Path(shutil.copytree(BUNDLED, tmp_path / "copy"))


def edit(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))


def test_the_same_recording_has_no_differences() -> None:
    frame = kn.open().diff(BUNDLED)
    assert frame.empty
    assert list(frame.columns) == ["what", "change", "name", "node", "field", "before", "after"]


def test_pods_services_rules_and_usage(copy: Path) -> None:
    pods = json.loads((copy / "api/pods.json").read_text())
    gone = pods["items"].pop(0)["metadata"]["name"]
    pods["items"][0]["status"]["podIPs"] = [{"ip": "10.1.1.1"}]
    moved = "{namespace}/{name}".format(**pods["items"][0]["metadata"])
    (copy / "api/pods.json").write_text(json.dumps(pods))
    edit(copy / "api/services.json", '"type": "LoadBalancer"', '"type": "NodePort"')
    edit(copy / "nodes/node-two/nft.json", '["10.32.0.1", "tcp", 443]', '["10.32.0.2", "tcp", 443]')
    edit(copy / "nodes/node-two/sysctl.txt", "nf_conntrack_max = 131072", "nf_conntrack_max = 1024")
    frame = kn.open().diff(copy)
    told = {(r.what, r.change, r.name, r.node, r.field) for r in frame.itertuples()}
    assert ("pod", "removed", f"default/{gone}", None, None) in told
    assert ("pod", "changed", moved, None, "ips") in told
    assert ("service", "changed", "default/hello-lb", None, "type") in told
    assert ("rules", "removed", "10.32.0.1:443/tcp", "node-two", None) in told
    assert ("rules", "added", "10.32.0.2:443/tcp", "node-two", None) in told
    usage = frame[frame["what"] == "usage"]
    assert usage[["node", "field", "before", "after"]].to_numpy().tolist() == [["node-two", "max", "131072", "1024"]]
    assert set(frame["node"].dropna()) == {"node-two"}
    back = kn.open(copy).diff(kn.open())
    assert len(back) == len(frame)
    assert ("added" in set(back[back["what"] == "pod"]["change"])) is True


def test_what_cannot_be_compared_is_said_and_the_rest_goes_on(copy: Path) -> None:
    (copy / "nodes/node-one/iptables-save.txt").unlink()
    (copy / "api/services.json").unlink()
    shutil.rmtree(copy / "nodes/node-three")
    frame = kn.open().diff(copy)
    unknown = frame[frame["change"] == "unknown"]
    assert set(zip(unknown["what"], unknown["node"].fillna(""), strict=True)) >= {
        ("service", ""),
        ("rules", "node-three"),
    }
    assert not frame[(frame["what"] == "rules") & (frame["node"] == "node-one")].empty
    assert not (frame["what"] == "pod").any()


class Changing(open_recording(BUNDLED).__class__):  # type: ignore[misc]
    """A recording that says it is live; each refresh takes the next text of a node's rules."""

    kind = "live"

    def __init__(self, texts: list[str]) -> None:
        whole = open_recording(BUNDLED)
        super().__init__(whole._files, whole.where)
        self.texts, self.at = texts, 0

    def refresh(self) -> None:
        self.at = min(self.at + 1, len(self.texts) - 1)

    def skew(self) -> float:
        return 1.5

    def read(self, ref: FactRef) -> bytes:
        if ref == FactRef("iptables-save.txt", "node-one"):
            return self.texts[self.at].encode()
        return bytes(super().read(ref))


def without(text: str, service: str) -> str:
    """The rules of a node that does not know one Service's address."""
    return re.sub(rf'^.* -A KUBE-SERVICES .*"{service} cluster IP".*\n', "", text, flags=re.MULTILINE)


@pytest.mark.parametrize(
    ("later", "states"),
    [
        ("the same", {"default/hello-world": "confirmed"}),
        ("healed", {}),
        ("another", {"default/hello-sticky": "settling"}),
    ],
)
def test_a_live_difference_counts_when_it_stays(later: str, states: dict[str, str]) -> None:
    text = (BUNDLED / "nodes/node-one/iptables-save.txt").read_text()
    first = without(text, "default/hello-world:http")
    second = {"the same": first, "healed": text, "another": without(text, "default/hello-sticky:http")}[later]
    frame = kn.Cluster(Changing([first, second])).drift("node-one", settle=0.01)
    found = frame[frame["code"] == "SERVICE_NOT_PROGRAMMED"]
    assert dict(zip(found["service"], found["state"], strict=True)) == states
    assert frame.attrs["skew"] == 1.5


def test_a_recording_is_one_moment() -> None:
    frame = kn.open().drift(settle=1000)
    assert "state" not in frame


def test_live_findings_are_confirmed_when_asked() -> None:
    text = (BUNDLED / "nodes/node-one/iptables-save.txt").read_text()
    first = without(text, "default/hello-world:http")
    second = without(first, "default/hello-sticky:http")
    frame = kn.Cluster(Changing([first, second])).findings("node-one", settle=0.01)
    found = frame[frame["code"] == "SERVICE_NOT_PROGRAMMED"]
    states = dict(zip(found["service"], found["state"], strict=True))
    assert states["default/hello-world"] == "confirmed"
    assert states["default/hello-sticky"] == "settling"
    assert set(frame[frame["code"] == "FACT_MISSING"]["state"]) == {"not checked"}
    assert "state" not in kn.Cluster(Changing([first])).findings("node-one")
