"""A twin that runs as long as a test needs it, in a folder of its own."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import k8snet_nb as kn
from k8snet_nb.sources.twin import TwinSource
from k8snet_nb.twin.making import down, up

__all__ = ["twin_of"]


@contextmanager
def twin_of(recording: Path | None = None, nodes: Sequence[str] | None = None) -> Iterator[kn.Cluster]:
    """A cluster whose source is a twin of a recording (by default the bundled one); it is gone afterwards."""
    before = os.environ.get("K8SNET_TWINS")
    with TemporaryDirectory(prefix="k8snet-test-") as base:
        os.environ["K8SNET_TWINS"] = base
        try:
            folder, _ = up(recording, nodes, "test")
        finally:
            os.environ.pop("K8SNET_TWINS")
            if before is not None:
                os.environ["K8SNET_TWINS"] = before
        try:
            with kn.Cluster(TwinSource(folder=folder)) as cluster:
                yield cluster
        finally:
            down(folder)
