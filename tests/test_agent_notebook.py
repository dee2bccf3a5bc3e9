"""The agent from cells of a live kernel, whose event loop runs on the main thread and which must never move."""

from __future__ import annotations

import subprocess
from pathlib import Path

import nbclient
import nbformat
from kernel_nodes import PREFIX
from needs import need

import k8snet_nb

pytestmark = need(root=True, commands=["ip"], modules=["ipykernel", "nbclient"])
ROOT = Path(next(iter(k8snet_nb.__path__))).parent

CELLS = """import sys, os, threading; sys.path.insert(0, '@ROOT@')
from k8snet_nb.sources.agents import Agent
from k8snet_nb.errors import AgentError
here = os.readlink('/proc/self/ns/net')
---
made = []
thread = threading.Thread(target=lambda: made.append(Agent.start()))  # as a widget's callback may
thread.start(); thread.join(); agent = made[0]
---
target = {'path': '/run/netns/NAME'}
one = agent.fact('addr.json', **target)
assert one.data and b'172.31.7.1' in one.data, one
print(agent.run(['ip', '-4', '-o', 'addr', 'show', 'lo'], target).out.decode())
---
running = agent.start_run(['sleep', '60'], target, 60)
running.cancel()
assert running.result().ended == 'cancelled'
---
lost = agent.fact('addr.json', pid=2**22 - 1)
assert lost.data is None and lost.code == 'gone'
---
spaces = {os.readlink(f'/proc/self/task/{task}/ns/net') for task in os.listdir('/proc/self/task')}
assert spaces == {here}, spaces
agent.close()
children = open(f'/proc/self/task/{os.getpid()}/children').read().split()
assert not [c for c in children if 'k8snet_nb.agent' in open(f'/proc/{c}/cmdline').read()]
print('all in', len(spaces), 'namespace')
""".split("\n---\n")


def test_cells_use_the_agent_and_the_kernel_stays_where_it_is() -> None:
    name = f"{PREFIX}nb"
    subprocess.run(["ip", "netns", "add", name], check=True)
    try:
        subprocess.run(["ip", "-n", name, "addr", "add", "172.31.7.1/32", "dev", "lo"], check=True)
        cells = [source.replace("NAME", name).replace("@ROOT@", str(ROOT)) for source in CELLS]
        notebook = nbformat.v4.new_notebook(
            cells=[nbformat.v4.new_code_cell(source) for source in cells],
            metadata={"kernelspec": {"name": "python3", "display_name": "", "language": "python"}},
        )
        nbclient.NotebookClient(notebook, timeout=60).execute()
        outputs = [output.get("text", "") for cell in notebook.cells for output in cell.outputs]
        assert "172.31.7.1/32" in outputs[0]
        assert outputs[-1] == "all in 1 namespace\n"
    finally:
        subprocess.run(["ip", "netns", "del", name], check=False)
