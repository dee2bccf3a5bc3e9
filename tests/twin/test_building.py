"""Each namespace of a plan, built by this kernel in fresh namespaces, reads back as it was recorded."""
from __future__ import annotations
import sys
from pathlib import Path
sys.path.insert(0, str(Path(__file__).parent))
import pytest, time
from needs import need
from spaces import Spaces
from k8snet_nb.sources.recorded import open_recording
from k8snet_nb.twin.planning import plan_twin
HELLO = Path(__file__).parents[2] / "k8snet_nb" / "data" / "hello-cluster"
@pytest.fixture(scope="module")
def hello():
    plan, spaces = plan_twin(open_recording(HELLO)), Spaces()
    try:
        t=time.time()
        left=spaces.twin(plan)
        print("built in",time.time()-t)
        yield plan, spaces, left
    finally:
        spaces.close()


def test_dbg(hello):
    plan, spaces, left = hello
    for l in left: print(l)
    print(spaces.run("node-one", "ip", "addr","show","cni0"), spaces.run("node-one","ip","route"), spaces.run("wire","ip","addr"))
    for dst in ("172.30.0.1","172.30.0.12","10.244.3.3","203.0.113.10","10.244.18.1"):
        print(spaces.run("default/client", "python3","-c",f"import socket;s=socket.create_connection(('{dst}',99),2)"))
        print(spaces.within("default/client",lambda: __import__('subprocess').run(["python3","-c",f"import socket;s=socket.create_connection(('{dst}',99),2)"],capture_output=True,text=True).stderr[-60:]))
