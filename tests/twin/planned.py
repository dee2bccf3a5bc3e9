"""The bundled recording, with some facts changed, for plans of twins."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from twin.made import Changed

from k8snet_nb.sources.recorded import open_recording

HELLO = Path(__file__).parents[2] / "k8snet_nb" / "data" / "hello-cluster"


def changed(changes: dict[str, Callable[[Any], object] | None]) -> Any:
    """The bundled recording with some facts changed."""
    return Changed(open_recording(HELLO), changes)
