"""What ``ss`` prints for fewer sockets than ``ss -tunap``, from what that printed. Source: ss(8), misc/ss.c."""

from __future__ import annotations

__all__ = ["OPTIONS", "listening", "socket_text"]

OPTIONS = frozenset("tunapl46")
"""The options of ss that ``ss -tunap`` can answer; -n must be among them: names of ports are not in the fact."""

_LISTENING = ("LISTEN", "UNCONN")
_HIDDEN = ("LISTEN", "UNCONN", "TIME-WAIT", "SYN-RECV")
_HEADINGS = ("Netid", "State", "Recv-Q", "Send-Q", "Local Address", "Port", "Peer Address", "Port", "Process")


def socket_text(text: str, options: set[str]) -> str:
    """The lines of ``ss`` with these option letters. Raises ValueError with the line that is no socket's."""
    netids = {name for letter, name in (("t", "tcp"), ("u", "udp")) if letter in options} or {"tcp", "udp"}
    rows = [_cells(line) for line in text.splitlines()[1:] if line.strip()]
    kept = [row for row in rows if row[0] in netids and _shown(row, options)]
    if "p" not in options:
        kept = [(*row[:8], "") for row in kept]
    first = 0 if len(netids) > 1 else 1
    return _table([row[first:] for row in (_HEADINGS, *kept)], first)


def _cells(line: str) -> tuple[str, ...]:
    fields = line.split(None, 6)
    if len(fields) < 6:
        raise ValueError(f"no socket: {line!r}")
    (local, _, port), (peer, _, far) = (end.rpartition(":") for end in fields[4:6])
    return (*fields[:4], local, port, peer, far, fields[6].rstrip() if len(fields) > 6 else "")


def _shown(row: tuple[str, ...], options: set[str]) -> bool:
    families = options & {"4", "6"}
    six = row[4].startswith("[") or row[4] == "*"
    if len(families) == 1 and six != ("6" in families):
        return False
    if "a" in options:
        return True
    return row[1] in _LISTENING if "l" in options else row[1] not in _HIDDEN


def _table(rows: list[tuple[str, ...]], first: int) -> str:
    widths = [max(len(row[column]) for row in rows) for column in range(8 - first)]
    lines = []
    for row in rows:
        cells = [cell.ljust(width) for cell, width in zip(row, widths, strict=False)]
        for at in (4 - first, 6 - first):
            cells[at] = row[at].rjust(widths[at])
        head = " ".join(cells[: 4 - first])
        line = f"{head} {cells[4 - first]}:{cells[5 - first]} {cells[6 - first]}:{cells[7 - first]}"
        process = row[-1]
        lines.append((line + (f" {process}" if process and process != "Process" else process)).rstrip())
    return "".join(f"{line}\n" for line in lines)


def listening(text: str, protocol: str, address: str, port: int) -> str | None:
    """The line of ``ss -tunap`` whose socket waits for this address and port, as it is printed; None when none does.

    Raises ValueError with the line that is no socket's. SCTP's sockets are not in that list.
    """
    anywhere = ("*", "::") if ":" in address else ("*", "::", "0.0.0.0")  # noqa: S104 - as ss prints it
    for line in text.splitlines()[1:]:
        row = _cells(line) if line.strip() else ()
        if not row or row[0] != protocol or row[1] not in _LISTENING or row[5] != str(port):
            continue
        held = row[4].partition("%")[0].strip("[]").removeprefix("::ffff:")
        if held == address or held in anywhere:
            return line.strip()
    return None
