"""Recordings by somebody who means harm: the bundled one, with words that would do some put wherever words are."""

from __future__ import annotations

import json
import random
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import k8snet_nb

__all__ = ["MARK", "WORDS", "hostile"]

HELLO = Path(str(k8snet_nb.__file__)).parent / "data" / "hello-cluster"
MARK = "k8snet-harm"
"""In every word of them, so that it is found where it comes out."""
WORDS = (
    f"../../../../tmp/{MARK}", f"/tmp/{MARK}", f"$(touch /tmp/{MARK})", f"; touch /tmp/{MARK} #",
    f"`touch /tmp/{MARK}`", f"--modprobe=/tmp/{MARK}", f"-batch /tmp/{MARK}", f"x\nlink add {MARK[:11]} type dummy",
    f"x\r\n{MARK}", f"\0{MARK}", f'" --modprobe=/tmp/{MARK} "', f'include "/tmp/{MARK}"', f"all {MARK}",
    f"\x1b]0;{MARK}\x07", MARK * 500, f"\u202e{MARK}", f"%s%n{MARK}", f"{{{MARK}}}",
)  # fmt: skip
VALUES: tuple[Any, ...] = (
    "0.0.0.0", "255.255.255.255", "224.0.0.1", "ff02::1", "::", "127.0.0.1", "169.254.169.254", "fe80::1%lo", "all",
    "default", "lo", "eth0", "..", ".", "", "init", "1", "self", -1, 0, 2**31, 2**63, 10**30, 1e308, True, None, [], {},
    [[]], "0.0.0.0/0", "::/0",
)  # fmt: skip
LINES = (
    f"*filter\n:{MARK} - [0:0]\n-A INPUT --modprobe=/tmp/{MARK} -j DROP\nCOMMIT",
    f'-A INPUT -m comment --comment "{MARK}\n-A INPUT" -j ACCEPT',
    f"create {MARK} hash:ip family inet hashsize 4294967295 maxelem 4294967295",
    f"create x list:set size 4294967295\nadd x {MARK}",
    f"-A -t 10.0.0.1:80 -s {MARK}",
    f"nameserver 8.8.8.8\nnameserver {MARK}\noptions {MARK}",
    "kernel.modprobe = 7\nnet.core.somaxconn = 1\nnet.ipv4.ip_forward = 1; reboot\nfs.file-max = 1",
    "net.netfilter.nf_conntrack_max = 1\nnet.netfilter.nf_conntrack_buckets = 1",
    f"\x00\xff{MARK}",
)


def hostile(root: Path, seed: int, share: float = 0.03) -> Path:
    """Write one below ``root``: so many of the words and lines of the bundled recording are others."""
    chance = random.Random(seed)
    made = Path(shutil.copytree(HELLO, root / f"hostile-{seed}"))
    for file in sorted(made.rglob("*")):
        if not file.is_file() or file.name == "recording.json":
            continue
        if file.suffix == ".json":
            file.write_text(json.dumps(_changed(json.loads(file.read_text()), chance, share)))
        elif chance.random() < 0.5:
            lines = file.read_text(errors="replace").split("\n")
            lines.insert(chance.randrange(len(lines) + 1), chance.choice(LINES))
            file.write_text("\n".join(lines), errors="surrogateescape")
    _links(made, chance)
    return made


def _links(made: Path, chance: random.Random) -> None:
    """One fact is a link to a file of the machine."""
    file = chance.choice(sorted(path for path in made.rglob("*.json") if path.parent.name.startswith("node-")))
    if chance.random() < 0.3:
        file.unlink()
        file.symlink_to("/etc/passwd")


def _changed(value: Any, chance: random.Random, share: float) -> Any:
    change: Callable[[Any], Any] = lambda inner: _changed(inner, chance, share)  # noqa: E731
    if isinstance(value, dict):
        pairs = {key: change(inner) for key, inner in value.items()}
        if chance.random() < share / 4:
            pairs[chance.choice(WORDS)] = chance.choice(VALUES)
        return pairs
    if isinstance(value, list):
        made = [change(inner) for inner in value]
        return made * chance.choice((1, 1, 2, 50)) if made and chance.random() < share / 10 else made
    return chance.choice((*WORDS, *VALUES)) if chance.random() < share else value
