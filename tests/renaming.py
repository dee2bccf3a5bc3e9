"""Takes answers about a cluster to those that its redacted recording should give."""

from __future__ import annotations

from typing import Any

import pandas as pd

from k8snet_nb.record.redact import Redactor

__all__ = ["Renamer", "rows"]


class Renamer:
    """By the mapping of one redactor."""

    def __init__(self, redactor: Redactor) -> None:
        self.names, self.addresses = redactor.names, redactor.addresses

    def __call__(self, value: Any) -> Any:
        if isinstance(value, str):
            return self.word(value)
        if isinstance(value, dict):
            return {self(key): self(one) for key, one in value.items()}
        if isinstance(value, (tuple, list)):
            return type(value)(sorted(map(self, value), key=str))
        return value

    def word(self, text: str) -> str:
        text = self.addresses.text(text)
        return "/".join(self.names.name(p) if self.names.known(p) else p for p in text.split("/"))

    def rows(self, frame: pd.DataFrame, columns: list[str]) -> list[str]:
        return sorted(str([self(value) for value in row]) for row in frame[columns].itertuples(index=False))


def rows(frame: pd.DataFrame, columns: list[str]) -> list[str]:
    """The rows of a table without their order."""
    plain = lambda v: type(v)(sorted(v, key=str)) if isinstance(v, (tuple, list)) else v  # noqa: E731
    return sorted(str([plain(value) for value in row]) for row in frame[columns].itertuples(index=False))
