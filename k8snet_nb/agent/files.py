"""Facts that are files: ``sysctl.txt``, ``kernel-log.txt``, ``resolv.conf``. Bounded, and nothing but regular files."""

from __future__ import annotations

import ctypes
import glob
import os
import re
import time

from .kernel import Missing, open_inside

__all__ = ["kernel_log", "resolv_conf", "sysctls"]

_LIMIT = 1 << 20
_KMSG = "/dev/kmsg"
_LOG_LINES = 10_000
_SYSCTLS = ("net/netfilter", "net/ipv4/ip_forward", "net/ipv4/vs")
_REVERSE_PATH = "/proc/sys/net/ipv4/conf/*/rp_filter"
_SEVERAL_LINES = 64
_STAMPED = re.compile(r"<\d+>(?:\[ *(\d+\.\d+)\](?:\[ *[TC]\d+\])? )?(.*)")


def sysctls() -> tuple[bytes, str | None]:
    """``sysctl net.netfilter net.ipv4.ip_forward net.ipv4.vs`` from /proc/sys, and which of them are not there.

    Then each interface's rp_filter.
    """
    lines: list[str] = []
    absent = []
    for name in _SYSCTLS:
        path = "/proc/sys/" + name
        if os.path.isdir(path):
            for folder, _, files in sorted(os.walk(path)):
                lines.extend(line for file in sorted(files) for line in _setting(os.path.join(folder, file)))
        elif os.path.exists(path):
            lines.extend(_setting(path))
        else:
            absent.append(name.replace("/", "."))
    lines.extend(line for path in sorted(glob.glob(_REVERSE_PATH)) for line in _setting(path))
    note = "not there: %s (its module is not loaded)" % ", ".join(absent) if absent else None
    if not lines:
        raise Missing(note or "nothing to read")
    return ("\n".join(lines) + "\n").encode(), note


def _setting(path: str) -> list[str]:
    try:
        with open(path, errors="replace") as file:
            value = file.read(65536).rstrip("\n")
    except OSError:
        return []  # write-only switches
    name = path[len("/proc/sys/") :].replace(".", "\0").replace("/", ".").replace("\0", "/")
    return ["%s = %s" % (name, line) for line in value.split("\n")[:_SEVERAL_LINES]]


def kernel_log(word: str = "conntrack") -> tuple[bytes, str]:
    """The lines of the kernel's log that hold a word, as ``dmesg -T`` prints them (node's time zone), and from where.

    By syslog(2) where that tells times, in one call; else from the device, which gives thousands of lines one by one,
    and which a container may not open, whatever its capabilities.
    """
    said = _syslog() if _stamped() else None
    if said is None:
        try:
            return _from_device(word), _KMSG
        except Missing:
            said = _syslog()
            if said is None:
                raise
    return _dated(said, word), "syslog(2)"


def _from_device(word: str) -> bytes:
    try:
        fd = os.open(_KMSG, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        code = "denied" if isinstance(error, PermissionError) else "absent"
        raise Missing("%s cannot be read: %s" % (_KMSG, os.strerror(error.errno or 0)), code) from None
    started = _boot_time()
    lines: list[str] = []
    try:
        while len(lines) < _LOG_LINES:
            try:
                record = os.read(fd, 16384).decode("utf-8", "replace")
            except BrokenPipeError:  # the oldest lines were overwritten while reading
                continue
            except BlockingIOError:
                break
            except OSError as error:
                raise Missing("%s cannot be read: %s" % (_KMSG, os.strerror(error.errno or 0)), "denied") from None
            head, _, text = record.partition(";")
            line = text.split("\n", 1)[0]
            if word in line:
                moment = started + int(head.split(",")[2]) / 1e6
                lines.append("[%s] %s" % (time.ctime(moment), line))
    finally:
        os.close(fd)
    return "".join(line + "\n" for line in lines).encode()


def _boot_time() -> float:
    return time.time() - time.clock_gettime(time.CLOCK_MONOTONIC)


def _stamped() -> bool:
    """Whether syslog(2) tells when a line was written."""
    try:
        with open("/sys/module/printk/parameters/time") as file:
            return file.read(1) == "Y"
    except OSError:
        return False


def _syslog() -> str | None:
    """The kernel's log by syslog(2), which CAP_SYSLOG opens; None where it does not."""
    libc = ctypes.CDLL(None, use_errno=True)
    size = libc.klogctl(10, None, 0)
    if size <= 0:
        return None
    held = ctypes.create_string_buffer(size)
    length = libc.klogctl(3, held, size)
    return held.raw[:length].decode("utf-8", "replace") if length >= 0 else None


def _dated(said: str, word: str) -> bytes:
    """Lines as syslog(2) has them (``<4>[  12.345678] text``, perhaps ``[  T1]`` before the text), as ``dmesg -T``.

    Lines without a time keep none.
    """
    started = _boot_time()
    lines: list[str] = []
    for line in said.split("\n"):
        found = _STAMPED.match(line) if word in line else None
        if found is not None and word in found[2]:
            when = "[%s] " % time.ctime(started + float(found[1])) if found[1] else ""
            lines.append("%s%s\n" % (when, found[2]))
    return "".join(lines[:_LOG_LINES]).encode()


def resolv_conf(pid: int) -> bytes:
    """``/etc/resolv.conf`` as a process of the pod sees it; links never lead out of the process's own root."""
    try:
        fd = open_inside("/proc/%d/root" % pid, "etc/resolv.conf")
    except PermissionError:
        raise Missing("reading the files of process %d needs root" % pid, "denied") from None
    except OSError as error:
        alive = os.path.isdir("/proc/%d" % pid)
        why = "/etc/resolv.conf of process %d: %s" % (pid, error.strerror)
        raise Missing(why, "absent" if alive else "gone") from None
    with os.fdopen(fd, "rb") as file:
        data = file.read(_LIMIT + 1)
    if len(data) > _LIMIT:
        raise Missing("/etc/resolv.conf of process %d is larger than %d bytes" % (pid, _LIMIT), "failed")
    return data
