"""Small disks that fill up and that fail: tmpfs of a few megabytes, made and taken away by root."""

from __future__ import annotations

__all__ = ["SmallDisk"]

import os
import subprocess
from pathlib import Path


class SmallDisk:
    """A tmpfs of `megabytes` at `path`; `fill` leaves no byte, `free` gives them back."""

    def __init__(self, path: Path, megabytes: int) -> None:
        self.path = path
        path.mkdir(parents=True)
        options = f"size={megabytes}m,nr_inodes=20000"
        done = subprocess.run(
            ["mount", "-t", "tmpfs", "-o", options, "streamproc-test", str(path)],
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        if done.returncode:
            raise OSError(f"a tmpfs cannot be mounted (CAP_SYS_ADMIN is needed): {done.stderr.strip()}")
        self._ballast = path / "ballast"

    @property
    def free_bytes(self) -> int:
        """What is left."""
        found = os.statvfs(self.path)
        return found.f_bavail * found.f_frsize

    def fill(self, but: int = 0) -> None:
        """Leave `but` bytes."""
        with self._ballast.open("ab") as file:
            while (left := self.free_bytes - but) > 0:
                try:
                    file.write(bytes(min(left, 1 << 16)))
                    file.flush()
                except OSError:
                    break

    def free(self) -> None:
        """Space again."""
        self._ballast.unlink(missing_ok=True)

    def grow(self, megabytes: int) -> None:
        """A larger disk from now on, with what is on it."""
        options = f"remount,size={megabytes}m"
        subprocess.run(["mount", "-o", options, str(self.path)], check=True, capture_output=True)

    def read_only(self, only: bool) -> None:
        """Mounted anew; what is open for writing keeps that from happening."""
        mode = "ro" if only else "rw"
        subprocess.run(["mount", "-o", f"remount,{mode}", str(self.path)], check=True, capture_output=True)

    def close(self) -> None:
        """Unmount, also if somebody still stands in it."""
        subprocess.run(["umount", "-l", str(self.path)], check=False, capture_output=True)
