"""Opening a recording of 10,000 pods and 5,000 Services and building both tables, against parsing its JSON alone.

Prints one ratio; at most 3 is wanted. Run it with ``make bench`` or ``python benchmarks/tables.py``.
"""

from __future__ import annotations

import copy
import json
import shutil
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import k8snet_nb as kn
from k8snet_nb.sources.opening import BUNDLED

PODS, SERVICES = 10_000, 5_000


def generate(folder: Path) -> None:
    """A recording like the bundled one, with its pods, Services and slices repeated under other names and addresses."""
    shutil.copytree(BUNDLED, folder)
    for resource, count in (("pods", PODS), ("services", SERVICES), ("endpointslices", SERVICES)):
        path = folder / "api" / f"{resource}.json"
        listed = json.loads(path.read_text())
        originals = listed["items"]
        listed["items"] = [_again(originals[i % len(originals)], i) for i in range(count)]
        path.write_text(json.dumps(listed))


def _again(item: dict, number: int) -> dict:
    item = copy.deepcopy(item)
    item["metadata"]["name"] += f"-{number}"
    if item.get("status", {}).get("podIP"):
        ip = f"10.{number >> 16}.{number >> 8 & 255}.{number & 255}"
        item["status"] |= {"podIP": ip, "podIPs": [{"ip": ip}]}
    return item


def best(run: Callable[[], object], times: int = 5) -> float:
    """The shortest of several runs, in seconds: the others were disturbed by something else."""
    taken = []
    for _ in range(times):
        start = time.perf_counter()
        run()
        taken.append(time.perf_counter() - start)
    return min(taken)


def main() -> None:
    """Generate, measure both, print the ratio."""
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary) / "large"
        generate(folder)
        files = [folder / "api" / f"{resource}.json" for resource in ("pods", "services")]
        floor = best(lambda: [json.loads(file.read_bytes()) for file in files])

        def tables() -> None:
            cluster = kn.open(folder)
            if (len(cluster.pods()), len(cluster.services())) != (PODS, SERVICES):
                raise SystemExit("the tables are not complete")

        ours = best(tables)
        print(f"JSON alone {floor:.3f} s, open and both tables {ours:.3f} s: {ours / floor:.2f} times (at most 3)")


if __name__ == "__main__":
    main()
