"""Recordings: folders and archives, good, broken and hostile."""

from __future__ import annotations

import gzip
import io
import json
import shutil
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

import k8snet_nb as kn
from k8snet_nb.errors import FactBroken, FactMissing, NotARecording, UnknownFormat, UnsafeRecording
from k8snet_nb.facts import FactRef
from k8snet_nb.sources.opening import BUNDLED, open_source
from k8snet_nb.sources.recorded import open_recording


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """A recording of one's own to break."""
    folder = tmp_path / "copy"
    shutil.copytree(BUNDLED, folder)
    return folder


def edit(path: Path, change: Callable[[dict], object]) -> None:
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


def pack(folder: Path, to: Path, inside: str = "hello-cluster") -> Path:
    if to.suffix == ".zip":
        with zipfile.ZipFile(to, "w", zipfile.ZIP_DEFLATED) as archive:
            for file in folder.rglob("*"):
                if file.is_file():
                    archive.write(file, f"{inside}/{file.relative_to(folder)}")
    else:
        with tarfile.open(to, f"w:{to.suffix.removeprefix('.').replace('tgz', 'gz')}") as archive:
            archive.add(folder, inside or ".")
    return to


def test_the_bundled_recording_is_the_default(monkeypatch: pytest.MonkeyPatch, copy: Path) -> None:
    monkeypatch.delenv("K8SNET_SOURCE", raising=False)
    assert kn.open().name == "hello-cluster"
    edit(copy / "recording.json", lambda about: about.update(name="other"))
    monkeypatch.setenv("K8SNET_SOURCE", str(copy))
    assert kn.open().name == "other"
    assert kn.open(BUNDLED).name == "hello-cluster"


@pytest.mark.parametrize("name", ["r.tar.gz", "r.tgz", "r.tar.xz", "r.zip"])
def test_an_archive_answers_as_its_folder_does(tmp_path: Path, name: str) -> None:
    packed = kn.open(pack(BUNDLED, tmp_path / name))
    assert packed.pods().equals(kn.open(BUNDLED).pods())
    assert packed.node("node-one").network() == kn.open(BUNDLED).node("node-one").network()


def test_an_archive_without_a_folder_around_it(tmp_path: Path) -> None:
    assert len(kn.open(pack(BUNDLED, tmp_path / "r.tar.gz", inside="")).pods()) == 14


def test_no_recording_says_where_and_what_to_do(tmp_path: Path) -> None:
    for path, words in ((tmp_path, "recording.json"), (tmp_path / "none", "no such folder"), (__file__, "neither")):
        with pytest.raises(NotARecording, match=words) as caught:
            kn.open(path)
        assert str(path) in str(caught.value)


@pytest.mark.parametrize("content", [b"{", b"[]", b"{}", b"\xff\xfe", b'{"format": 1, "nodes": 3}', b"[" * 100_000])
def test_a_broken_recording_json(copy: Path, content: bytes) -> None:
    (copy / "recording.json").write_bytes(content)
    with pytest.raises(NotARecording, match=r"recording\.json"):
        kn.open(copy)


@pytest.mark.parametrize("future", [2, "1", True, None])
def test_a_future_format_is_refused_in_one_line(copy: Path, future: object) -> None:
    edit(copy / "recording.json", lambda about: about.update(format=future))
    with pytest.raises(UnknownFormat, match="reads format 1") as caught:
        kn.open(copy)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("node", ["../../etc", "/etc", "a/b", "..", "a\\b", "C:x"])
def test_a_nodes_name_is_no_path(copy: Path, node: str) -> None:
    edit(copy / "recording.json", lambda about: about["nodes"].append(node))
    with pytest.raises(UnsafeRecording):
        kn.open(copy)


def test_a_pods_name_is_no_path(copy: Path) -> None:
    source = open_source(copy)
    for ref in (FactRef("addr.json", "node-one", "../../.."), FactRef("../recording", None), FactRef("x", "..")):
        with pytest.raises(UnsafeRecording):
            source.read(ref)


def test_a_link_out_of_the_folder_is_not_followed(copy: Path, tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("[]")
    link = copy / "nodes/node-one/addr.json"
    link.unlink()
    link.symlink_to(secret)
    with pytest.raises(UnsafeRecording, match="link"):
        kn.open(copy).node("node-one").links()


def _member(name: str, kind: bytes = tarfile.REGTYPE, link: str = "", size: int = 0) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname, info.size = kind, link, size
    return info


@pytest.mark.parametrize(
    "member",
    [
        _member("../evil"),
        _member("/etc/evil"),
        _member("r/../../evil"),
        _member("r/link", tarfile.SYMTYPE, "/etc/passwd"),
        _member("r/hard", tarfile.LNKTYPE, "/etc/passwd"),
        _member("r/device", tarfile.CHRTYPE),
        _member("r/fifo", tarfile.FIFOTYPE),
    ],
    ids=lambda m: m.name,
)
def test_a_hostile_tar_is_refused_and_writes_nothing(tmp_path: Path, member: tarfile.TarInfo) -> None:
    path = tmp_path / "in" / "evil.tar.gz"
    path.parent.mkdir()
    about = json.dumps({"format": 1, "name": "evil", "nodes": []}).encode()
    with tarfile.open(path, "w:gz") as tar:
        tar.addfile(_member("r/recording.json", size=len(about)), io.BytesIO(about))
        tar.addfile(member)
    with pytest.raises(UnsafeRecording):
        kn.open(path)
    assert sorted(p.name for p in tmp_path.rglob("*")) == ["evil.tar.gz", "in"]


@pytest.mark.parametrize(("name", "mode"), [("../evil", 0o100644), ("/evil", 0o100644), ("r/link", 0o120777)])
def test_a_hostile_zip_is_refused(tmp_path: Path, name: str, mode: int) -> None:
    path = tmp_path / "evil.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("r/recording.json", '{"format": 1, "nodes": []}')
        info = zipfile.ZipInfo(name)
        info.external_attr = mode << 16
        archive.writestr(info, "x")
    with pytest.raises(UnsafeRecording):
        kn.open(path)


@pytest.mark.parametrize("name", ["bomb.tar.gz", "bomb.tar.xz", "bomb.zip"])
def test_an_archive_may_not_unpack_beyond_its_bound(tmp_path: Path, name: str) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / "recording.json").write_text('{"format": 1, "nodes": []}')
    (folder / "zeros").write_bytes(bytes(5_000_000))
    path = pack(folder, tmp_path / name)
    assert path.stat().st_size < 20_000
    with pytest.raises(UnsafeRecording, match="1,000,000 bytes"):
        open_recording(path, max_bytes=1_000_000)


@pytest.mark.parametrize("name", ["r.tar.gz", "r.tar.xz", "r.zip"])
def test_a_truncated_archive(tmp_path: Path, name: str) -> None:
    path = pack(BUNDLED, tmp_path / name)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(NotARecording, match="complete"):
        kn.open(path)


@pytest.mark.parametrize(
    "content", [b"", b"{", b"null", b"[]", b'{"items": {}}', b'{"kind": "Pod"}', b'{"items": [1]}']
)
def test_a_broken_api_file_breaks_its_own_answers_only(copy: Path, content: bytes) -> None:
    (copy / "api/pods.json").write_bytes(content)
    cluster = kn.open(copy)
    with pytest.raises(FactBroken, match=r"pods\.json of the Kubernetes API"):
        cluster.pods()
    assert len(cluster.services()) == 12
    assert len(cluster.nodes()) == 3


def test_a_missing_fact_names_itself_and_the_rest_goes_on(copy: Path) -> None:
    (copy / "api/pods.json").unlink()
    (copy / "nodes/node-one/addr.json").unlink()
    shutil.rmtree(copy / "nodes/node-two")
    cluster = kn.open(copy)
    with pytest.raises(FactMissing, match=r"pods\.json|pods of the Kubernetes API"):
        cluster.pods()
    with pytest.raises(FactMissing, match=r"addr\.json of node node-one"):
        cluster.node("node-one").links()
    with pytest.raises(FactMissing, match="holds no data of node node-two"):
        cluster.node("node-two").links()
    assert len(cluster.services()) == 12


def test_the_recorded_reason_is_told() -> None:
    with pytest.raises(FactMissing, match="Module ip_vs not found"):
        open_source(BUNDLED).read(FactRef("ipvs-save.txt", "node-one"))
    facts = kn.open(BUNDLED).node("node-one").facts().set_index("fact")
    assert facts.present["sysctl.txt"], "a partial fact is present ..."
    assert "net/ipv4/vs" in facts.trouble["sysctl.txt"], "... and says what it lacks"


@pytest.mark.parametrize("part", ["status", "spec"])
def test_a_pod_without_a_part_breaks_the_table_and_no_other_pod(copy: Path, part: str) -> None:
    edit(copy / "api/pods.json", lambda pods: pods["items"][0].pop(part))
    cluster = kn.open(copy)
    with pytest.raises(FactBroken, match=f"pod default/client: has no {part}"):
        cluster.pods()
    assert cluster.pod("default/client-two").ip == "10.244.3.7"
    assert len(cluster.services()) == 12


def test_hostile_names_are_escaped_where_they_are_shown(copy: Path) -> None:
    evil = "<script>alert(1)</script>\x1b[31m\u202e"

    def poison(pods: dict) -> None:
        pods["items"][0]["metadata"]["name"] = evil
        pods["items"][0]["spec"]["nodeName"] = evil
        pods["items"][0]["metadata"]["annotations"] = {"note": evil}

    edit(copy / "api/pods.json", poison)
    edit(copy / "recording.json", lambda about: about.update(name=evil))
    cluster = kn.open(copy)
    shown = [cluster, cluster.pod(f"default/{evil}"), cluster.who("10.244.18.5"), kn.as_kubectl(cluster.pods())]
    for value in [*shown, *cluster.network_model()]:
        bundle = value._repr_mimebundle_()
        assert "<script" not in bundle["text/html"]
        for kind in ("text/html", "text/plain"):
            assert "\x1b" not in bundle[kind]
            assert "\u202e" not in bundle[kind]
    assert "&lt;script&gt;" in cluster.pod(f"default/{evil}")._repr_mimebundle_()["text/html"]


def test_unknown_files_are_ignored(copy: Path) -> None:
    (copy / "nodes/node-one/new-fact.bin").write_bytes(b"\x00")
    (copy / "notes.txt").write_text("hello")
    assert len(kn.open(copy).pods()) == 14


def test_a_long_name_in_a_tar_is_bounded_too(tmp_path: Path) -> None:
    path = tmp_path / "names.tar.gz"
    name = b"a" * 40_000_000
    with gzip.open(path, "wb", compresslevel=1) as out:
        head = _member("././@LongLink", tarfile.GNUTYPE_LONGNAME, size=len(name))
        out.write(head.tobuf(tarfile.GNU_FORMAT))
        out.write(name + bytes(-len(name) % 512))
        out.write(_member("r/recording.json").tobuf(tarfile.GNU_FORMAT) + bytes(1024))
    with pytest.raises(UnsafeRecording, match="1,000,000 bytes"):
        open_recording(path, max_bytes=1_000_000)


def test_a_damaged_tar_is_refused_and_never_read_in_part(tmp_path: Path) -> None:
    packed = pack(BUNDLED, tmp_path / "r.tar.gz").read_bytes()
    whole = gzip.decompress(packed)
    head = [n for n in range(0, len(whole), 512) if whole[n + 257 : n + 262] == b"ustar"][40]

    def flipped(at: int) -> bytes:
        return packed[:at] + bytes([packed[at] ^ 4]) + packed[at + 1 :]

    cases = {
        "cut between members": gzip.compress(whole[:head]),
        "a header overwritten": gzip.compress(whole[:head] + b"x" * 512 + whole[head + 512 :]),
        "a bit of gzip's check value": flipped(len(packed) - 6),
        "a bit in the middle": flipped(len(packed) // 2),
    }
    for what, content in cases.items():
        path = tmp_path / "damaged.tar.gz"
        path.write_bytes(content)
        with pytest.raises((NotARecording, UnsafeRecording)):
            pytest.fail(f"{what}: opened as {kn.open(path)!r}")


def test_a_zip_with_a_name_that_is_no_text(tmp_path: Path) -> None:
    path = tmp_path / "odd.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("r/ä", "x")
    path.write_bytes(path.read_bytes().replace("ä".encode(), b"\xff\xff"))
    with pytest.raises(NotARecording):
        kn.open(path)


def test_links_in_a_circle_and_names_beyond_a_file_systems_bound(copy: Path) -> None:
    fact = copy / "nodes/node-one/addr.json"
    fact.unlink()
    fact.symlink_to(fact)
    with pytest.raises((UnsafeRecording, FactMissing)):
        kn.open(copy).node("node-one").links()

    def rename(pods: dict) -> None:
        pods["items"][0]["metadata"]["name"] = "x" * 300
        pods["items"][1]["metadata"]["name"] = ".."

    edit(copy / "api/pods.json", rename)
    fact.unlink()
    rules = kn.open(copy).network_model()
    assert rules[1].verdict == "holds"


def test_who_told_a_fact_is_what_was_noted_of_it(copy: Path) -> None:
    """A fact that netlink told is not said to be a program's, whose version is known as well."""
    edit(copy / "nodes/node-one/node.json", lambda about: about.update(told_by={"addr.json": "netlink"}))
    source = open_recording(copy)
    assert source.whose(FactRef("addr.json", "node-one")) == "netlink"
    assert source.whose(FactRef("route.json", "node-one")) == "ip utility, iproute2-7.3.0, libbpf 1.7.0"


def test_a_recording_knows_its_place_from_everywhere(copy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A twin is opened later, from another folder, by the recording that it was made from."""
    monkeypatch.chdir(copy.parent)
    assert open_recording(copy.name).where == str(copy)
