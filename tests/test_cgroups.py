from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import k8snet_nb
from k8snet_nb.cgroups import PodCgroup, ProcessRecord, choose_sandbox, pod_cgroup, pod_of, same_pod

UID = "2174b7f8-0b0f-4e45-b59b-7a9431686311"
LOW = UID.replace("-", "_")
HASH = "0123456789abcdef0123456789abcdef"
CID = "46" * 32

SPELLINGS = [
    (f"/kubepods/besteffort/pod{UID}/{CID}", UID, CID, None),
    (f"/kubepods/pod{UID}/{CID}", UID, CID, None),
    (f"/kubepods/burstable/pod{UID}", UID, None, None),
    (f"/node-one/kubepods/besteffort/pod{UID}/{CID}", UID, CID, None),
    (f"/../../kubepods/pod{UID}/{CID}", UID, CID, None),
    (f"/../pod{UID}/{CID}", None, None, None),
    (f"/docker/{'ab' * 32}/kubelet/kubepods/burstable/pod{UID}/{CID}", UID, CID, None),
    (
        f"/kubepods.slice/kubepods-besteffort.slice/kubepods-besteffort-pod{LOW}.slice/cri-containerd-{CID}.scope",
        UID,
        CID,
        "cri-containerd",
    ),
    (f"/kubepods.slice/kubepods-pod{LOW}.slice/crio-{CID}.scope", UID, CID, "crio"),
    (f"/kubepods.slice/kubepods-pod{LOW}.slice/crio-{CID}.scope/container", UID, CID, "crio"),
    (f"/kubepods.slice/kubepods-pod{LOW}.slice/crio-conmon-{CID}.scope", UID, CID, "crio-conmon"),
    (f"/kubepods.slice/kubepods-pod{LOW}.slice/docker-{CID}.scope", UID, CID, "docker"),
    (
        f"/kubelet.slice/kubelet-kubepods.slice/kubelet-kubepods-pod{LOW}.slice/cri-containerd-{CID}.scope",
        UID,
        CID,
        "cri-containerd",
    ),
    (f"/../../kubelet-kubepods-burstable-pod{LOW}.slice/cri-containerd-{CID}.scope", UID, CID, "cri-containerd"),
    (f"/kubepods/burstable/pod{HASH}/{CID}", HASH, CID, None),
    (
        f"/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod{HASH}.slice/crio-{CID}.scope",
        HASH,
        CID,
        "crio",
    ),
    (
        f"/system.slice/containerd.service/kubepods-burstable-pod{LOW}.slice:cri-containerd:{CID}",
        UID,
        CID,
        "cri-containerd",
    ),
    ("/", None, None, None),
    ("", None, None, None),
    ("/system.slice/docker.service", None, None, None),
    (f"/machine.slice/libpod-{CID}.scope", None, None, None),
    (f"/user/pod{UID}/{CID}", None, None, None),
    (f"/kubepods/pod{UID[:-1]}/{CID}", None, None, None),
    (f"/kubepods/pod{UID.replace('-', '_', 1)}/{CID}", None, None, None),
]


@pytest.mark.parametrize(("path", "uid", "cid", "runtime"), SPELLINGS)
def test_spellings(path: str, uid: str | None, cid: str | None, runtime: str | None) -> None:
    assert pod_cgroup(path) == (None if uid is None else PodCgroup(uid, cid, runtime))


@given(
    uid=st.uuids().map(str),
    cid=st.none() | st.text("0123456789abcdef", min_size=64, max_size=64),
    prefix=st.lists(st.sampled_from(["..", "node-one", "kubelet", "docker", "a b", "é"]), max_size=4),
    qos=st.sampled_from(["", "besteffort", "burstable"]),
    systemd=st.booleans(),
    runtime=st.sampled_from(["cri-containerd", "crio", "docker"]),
)
def test_written_paths_read_back(
    uid: str, cid: str | None, prefix: list[str], qos: str, systemd: bool, runtime: str
) -> None:
    if systemd:
        name = "-".join(part for part in ("kubepods", qos, "pod" + uid.replace("-", "_")) if part)
        parts = [*prefix, "kubepods.slice", f"{name}.slice", *([f"{runtime}-{cid}.scope"] if cid else [])]
    else:
        parts = [*prefix, "kubepods", *([qos] if qos else []), f"pod{uid}", *([cid] if cid else [])]
    expected = PodCgroup(uid, cid, runtime if systemd and cid else None)
    assert pod_cgroup("/" + "/".join(parts)) == expected


@given(st.text())
def test_any_text_is_survived(path: str) -> None:
    found = pod_cgroup(path)
    assert found is None or "kubepods" in path


def test_the_path_with_the_container_wins_and_a_contradiction_is_no_answer() -> None:
    assert pod_of([f"/kubepods/pod{UID}", "/", f"/kubepods/pod{UID}/{CID}"]) == PodCgroup(UID, CID)
    assert pod_of([f"/kubepods/pod{UID}", f"/kubepods/pod{HASH}"]) is None
    assert pod_of([]) is None


def test_identities_compare_without_dashes_and_case() -> None:
    assert same_pod(UID, ["x", UID.upper()])
    assert same_pod(HASH, [HASH])
    assert not same_pod(HASH, [UID])


def record(pid: int, cid: str, cmdline: str, runtime: str = "") -> ProcessRecord:
    name = f"{runtime}-{cid}.scope" if runtime else cid
    return ProcessRecord(pid, 7, (f"/kubepods/pod{UID}/{name}",), cmdline)


def test_the_shim_decides_before_the_name() -> None:
    liar, real = record(5, "aa" * 32, "/pause"), record(9, CID, "/usr/bin/sandbox")
    shim = ProcessRecord(3, 1, ("/",), f"/usr/bin/containerd-shim-runc-v2 -namespace k8s.io -id {CID} -address /x")
    assert choose_sandbox([liar, real], [shim])[0] == real
    assert choose_sandbox([liar, real])[0] == liar


def test_a_pod_without_a_sandbox_process() -> None:
    members = [record(5, CID, "/usr/bin/conmon -c pause", "crio-conmon"), record(6, "bb" * 32, "nginx", "crio")]
    assert choose_sandbox(members)[0] is None


def test_every_recorded_pod_process_is_found() -> None:
    root = Path(next(iter(k8snet_nb.__path__)))
    for node in ("node-one", "node-two"):
        folder = root / "data" / "hello-cluster" / "nodes" / node
        rows = json.loads((folder / "processes.json").read_text())
        records = [ProcessRecord(r["pid"], r["netns"], tuple(r["cgroups"]), r["cmdline"]) for r in rows]
        for pod in sorted(folder.glob("pods/*/*/pod.json")):
            said = json.loads(pod.read_text())
            uid = next(pod_of(r.cgroups) for r in records if r.pid == said["sandbox_pid"])
            assert uid is not None
            members = [r for r in records if (named := pod_of(r.cgroups)) and named.uid == uid.uid]
            chosen, _ = choose_sandbox(members, records)
            assert chosen is not None
            assert chosen.pid == said["sandbox_pid"]
            assert [r.pid for r in members] == said["pids"]
