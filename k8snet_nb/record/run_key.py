"""The key of a redacted recording that is not finished yet.

With it the new names can be read back. So it lies beside the recording and never in it, is for its owner only, and is
removed before the recording is called finished. Who gets the finished recording has no key to look for; one that was
interrupted goes on with the names that it has given out already.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..errors import SourceError

__all__ = ["RunKey"]


class RunKey:
    """The file ``FOLDER.redaction-key``, bound to one beginning of one recording of one source."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.path = folder.with_name(f"{folder.name}.redaction-key")

    def read(self, run: str, source: str) -> dict[str, Any]:
        """What :meth:`write` was given. Raises SourceError when it is not of this recording, or gone."""
        try:
            held = json.loads(self.path.read_bytes())
            if (held["run"], held["source"]) == (run, source):
                return dict(held["state"])
            why = "is of another recording, or of another source"
        except FileNotFoundError:
            why = "is gone"
        except (OSError, ValueError, KeyError, TypeError) as error:
            why = f"cannot be read ({error})"
        raise SourceError(
            f"{self.folder}: was begun with other names, and {self.path} that has them {why}: it cannot go on. Remove "
            f"the folder and begin anew"
        )

    def write(self, run: str, source: str, state: Mapping[str, Any]) -> None:
        """Keep it for the next attempt, readable by its owner only."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        part = self.path.with_name(f".{self.path.name}.part")
        part.unlink(missing_ok=True)
        with os.fdopen(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
            json.dump({"run": run, "source": source, "state": dict(state)}, file)
        part.replace(self.path)

    def remove(self) -> None:
        """The recording is complete: nobody is to have it."""
        self.path.unlink(missing_ok=True)
