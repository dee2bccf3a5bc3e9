"""SCTP in a kernel that has it: User-Mode Linux, since most machines have neither the module nor a say in that."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from guest.uml import require, run

import k8snet_nb

SCRIPT = """
import dataclasses, json, os, signal, subprocess, sys
sys.path.insert(0, {package!r})
from k8snet_nb.twin.serving.client import Plan, connect
from k8snet_nb.twin.model import Listener
from k8snet_nb.twin.serving.servers import serve

subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
subprocess.run(["ip", "addr", "add", "fd77::1/128", "dev", "lo", "nodad"], check=True)
with open("/proc/sys/net/sctp/cookie_hmac_alg", "w") as algorithm:
    algorithm.write("none")  # this kernel has its hashes in modules that nothing loads here
places = ("127.0.0.1", "fd77::1")
reading, writing = os.pipe()
child = os.fork()
if not child:
    listeners = [Listener("sctp", place, 9999, "sctp", "default/sctp") for place in places]
    serve(listeners, None, lambda failures: os.write(writing, json.dumps(failures).encode()))
failures = json.loads(os.read(reading, 4096))
plans = [Plan("sctp", place, 9999, count=20, timeout=20) for place in places]
plans += [Plan("sctp", place, 9998, timeout=20) for place in places]
found = [[dataclasses.asdict(answer) for answer in connect(plan)] for plan in plans]
os.kill(child, signal.SIGKILL)
print(json.dumps([failures, found]))
"""


@pytest.mark.slow
def test_sctp_is_answered_and_refused() -> None:
    require("ip")
    package = str(Path(str(k8snet_nb.__file__)).parent.parent)
    said = run(SCRIPT.format(package=package), modules=["sctp"], timeout=150)
    failures, found = json.loads(said.splitlines()[-1])
    assert failures == []
    for place, answers in zip(("127.0.0.1", "fd77::1"), found[:2], strict=True):
        assert [answer["end"] for answer in answers] == ["ok"] * 20
        assert {(each["pod"], each["server"], each["port"], each["peer"]) for each in answers} == {
            ("default/sctp", place, 9999, place)
        }
    assert [each["end"] for answers in found[2:] for each in answers] == ["refused", "refused"]
