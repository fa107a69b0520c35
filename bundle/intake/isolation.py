"""Cut a process off from network and files, where the system can: Linux with Landlock and seccomp.

The child that decodes a scan reads Python's and the bundle's own files and the scan, writes nothing, opens no socket
and starts no program. What this system lacks is told by `missing`.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable
from pathlib import Path
from types import ModuleType

__all__ = ["Isolation", "missing"]

DENIED = (  # system calls that no decoder needs
    *("socket", "socketpair", "connect", "bind", "listen", "accept", "accept4"),
    *("execve", "execveat", "ptrace", "process_vm_readv", "process_vm_writev", "io_uring_setup", "bpf", "mount"),
    *("keyctl", "add_key", "request_key", "userfaultfd", "perf_event_open", "unshare", "setns", "pidfd_getfd"),
)
NOT_PERMITTED = 1  # EPERM
SYSTEM = ("/usr", "/lib", "/lib64", "/etc/ld.so.cache", "/proc/self", "/dev/null", "/dev/urandom")


def _landlock() -> ModuleType | None:
    try:
        import landlockpy

        return landlockpy if landlockpy.supported() else None
    except (ImportError, OSError):
        return None


def _seccomp() -> ModuleType | None:
    try:
        import pyseccomp

        return pyseccomp
    except (ImportError, OSError, RuntimeError):
        return None


def missing() -> list[str]:
    """What a decoding process is not cut off from on this system, in words."""
    found = [] if _landlock() else ["this user's files (no Landlock, or no package landlockpy)"]
    return found if _seccomp() else [*found, "the network (no libseccomp, or no package pyseccomp)"]


class Isolation:
    """Load what is needed before any untrusted byte is seen; then cut off the children.

    Args:
        own: further files and folders that a child may read.
    """

    def __init__(self, own: Iterable[Path]) -> None:
        self.landlock, self.seccomp = _landlock(), _seccomp()
        self.readable = [Path(path) for path in (*SYSTEM, sys.prefix, sys.base_prefix, sys.exec_prefix)]
        self.readable += [Path(path) for path in sys.path if "packages" in path or path.startswith(sys.base_prefix)]
        self.readable += own

    def enter(self, scans: Iterable[Path] = ()) -> None:
        """Cut off this process, for ever.

        Args:
            scans: files and folders that it has to read as well.
        """
        if self.landlock is not None:
            allowed = self.landlock.AccessFS.READ_FILE | self.landlock.AccessFS.READ_DIR
            scope = self.landlock.Scope.ABSTRACT_UNIX_SOCKET | self.landlock.Scope.SIGNAL
            with self.landlock.Ruleset(scoped=scope) as rules:
                for path in {*self.readable, *scans}:
                    if path.is_dir():
                        rules.allow_path(path, allowed | self.landlock.AccessFS.EXECUTE)
                    elif path.exists():
                        rules.allow_path(path, self.landlock.AccessFS.READ_FILE)
                rules.restrict()
        if self.seccomp is not None:
            calls = self.seccomp.SyscallFilter(self.seccomp.ALLOW)
            for name in DENIED:
                calls.add_rule(self.seccomp.ERRNO(NOT_PERMITTED), name)
            calls.load()
