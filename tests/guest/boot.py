"""First program of the guest (standard library only): loads modules, runs the script, says how it ended, powers off."""

from __future__ import annotations

import ctypes
import gzip
import lzma
import os
import subprocess
import sys
from pathlib import Path

WORK = Path("/run/work")
SYS_INIT_MODULE = {"x86_64": 175, "aarch64": 105}
POWER_OFF = 0x4321FEDC


def load(libc: ctypes.CDLL, path: str) -> None:
    """Loads one module file, compressed or not."""
    image = Path(path).read_bytes()
    if path.endswith(".xz"):
        image = lzma.decompress(image)
    elif path.endswith(".gz"):
        image = gzip.decompress(image)
    number = SYS_INIT_MODULE[os.uname().machine]
    if libc.syscall(number, image, ctypes.c_ulong(len(image)), b"") != 0:
        error = ctypes.get_errno()
        if error != 17:  # EEXIST: loaded or built in
            print(f"module {path}: {os.strerror(error)}", flush=True)


def main() -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    status = "not started"
    try:
        with (WORK / "output").open("wb", buffering=0) as output:
            os.dup2(output.fileno(), 1)
            os.dup2(output.fileno(), 2)
            for path in (WORK / "modules").read_text().split("\n"):
                if path:
                    load(libc, path)
            done = subprocess.run([sys.argv[1], str(WORK / "script.py")], check=False)
            status = str(done.returncode)
    except BaseException as error:  # noqa: BLE001 - the first process must never end: the kernel would panic
        status = f"{type(error).__name__}: {error}"
    finally:
        (WORK / "status").write_text(status)
        os.sync()
        libc.reboot(POWER_OFF)


if __name__ == "__main__":
    main()
