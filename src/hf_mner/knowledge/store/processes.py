"""Tell whether a process that wrote its mark into a file is still running."""

from __future__ import annotations

import os
import platform
import time
from pathlib import Path
from typing import NamedTuple

LEASE_S = 600.0


class ProcessMark(NamedTuple):
    """Which process this is.

    `boundary` names the running kernel and the process namespace, inside which process ids can be compared; `birth` is
    when the process began, because ids are given again. Both are `""` where the system does not tell.
    """

    host: str
    boundary: str
    pid: int
    birth: str


def mark_process() -> ProcessMark:
    """Return the mark of this process."""
    return ProcessMark(platform.node(), _read_boundary(), os.getpid(), find_birth(os.getpid()) or "")


def is_stopped(mark: ProcessMark, seen: float, lease_s: float = LEASE_S) -> bool:
    """Tell whether a process has ended.

    On the same machine the process itself is looked for. From elsewhere (another machine, another container) nothing
    can be seen, so a process counts as stopped once it has given no sign of life for `lease_s`.

    Args:
        mark: of the process.
        seen: when it last gave a sign of life, seconds since 1970.
        lease_s: seconds.
    """
    own = mark_process()
    if os.name == "posix" and (mark.host, mark.boundary) == (own.host, own.boundary):
        return find_birth(mark.pid) != mark.birth
    return time.time() - seen > lease_s


def find_birth(pid: int) -> str | None:
    """Return when a running process began, in ticks; `""` where the system does not tell, None if it is not running.

    A killed process that its parent has not collected (a zombie) is not running.
    """
    if Path("/proc/self/stat").exists():
        try:
            fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
        except OSError:
            return None
        return None if fields[0] in "ZX" else fields[19]  # state, and field 22 of `man 5 proc`
    if os.name == "posix":
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return None
        except PermissionError:
            return ""
    return ""


def _read_boundary() -> str:
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        return f"{boot} {os.readlink('/proc/self/ns/pid')}"
    except OSError:
        return ""
