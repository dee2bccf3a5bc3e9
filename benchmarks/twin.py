"""Bringing the bundled recording to life, against the bare work that cannot be left out.

    python benchmarks/twin.py [--rounds 3]

Needs root, or a user who may make user namespaces; linux.uml for the second figure. Each figure is the best of the
rounds, measured as a user meets it: the command is started, and ends when the twin is up.

1. The two nodes of this kernel: against a shell that makes as many network namespaces with a veth pair each, one
   ``ip`` a namespace, and starts as many sleeping processes. To be at most 12.
2. All three, one in a guest: against booting the same guest kernel with the same modules, empty. To be at most 3.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from k8snet_nb.twin.guest.guest import Guest, unavailable
from k8snet_nb.twin.guest.modules import NODE

COMMAND = [sys.executable, "-c", "import sys; from k8snet_nb.cli import main; sys.exit(main())", "twin"]
PODS = 10
SHELL = f"""
mount -t tmpfs none /run && mkdir -p /run/netns
for n in $(seq {PODS}); do
    ip netns add p$n
    printf 'link add v%s type veth peer name eth0 netns p%s\\nlink set v%s up\\n' $n $n $n | ip -batch -
    ip -n p$n link set eth0 up
    ip netns exec p$n sleep 1 &
done
"""


def main() -> None:
    """Measure, print, exit 1 where a bound does not hold."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=3)
    rounds = parser.parse_args().rounds
    with tempfile.TemporaryDirectory(prefix="k8tw") as base:
        os.environ |= {"K8SNET_TWINS": base, "PYTHONPATH": sys.path[0]}
        held = [_compare("two nodes", lambda: _up("--node", "node-one", "--node", "node-two"), _shell, rounds, 12)]
        if unavailable() is None:
            held.append(_compare("three nodes, one in a guest", _up, _guest, rounds, 3))
        else:
            print(f"no guest: {unavailable()}")
    sys.exit(0 if all(held) else 1)


def _compare(what: str, ours: Callable[[], float], floor: Callable[[], float], rounds: int, most: float) -> bool:
    pairs = [(ours(), floor()) for _ in range(rounds)]
    best, least = min(pair[0] for pair in pairs), min(pair[1] for pair in pairs)
    print(f"{what}: up in {best:.2f} s, floor {least:.2f} s, ratio {best / least:.1f} (at most {most})")
    return best / least <= most


def _up(*nodes: str) -> float:
    begun = time.perf_counter()
    subprocess.run([*COMMAND, "up", *nodes], check=True, capture_output=True)
    took = time.perf_counter() - begun
    subprocess.run([*COMMAND, "down"], check=True, capture_output=True)
    return took


def _shell() -> float:
    begun = time.perf_counter()
    apart = ["unshare", *([] if os.geteuid() == 0 else ["--user", "--map-root-user"]), "--mount", "--net"]
    subprocess.run([*apart, "sh", "-ec", SHELL], check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - begun


def _guest() -> float:
    begun = time.perf_counter()
    with Guest(NODE):
        return time.perf_counter() - begun


if __name__ == "__main__":
    main()
