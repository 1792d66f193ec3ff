"""Small disks of a row's own: where the data directory of a host lies while its disk fills or is cut off.

Needs the right to mount; `can_mount` says whether there is one. What is mounted here is unmounted here,
also when the row throws.
"""

import contextlib
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

MIB = 1 << 20


def can_mount() -> bool:
    """Whether this process may mount at all."""
    tried = subprocess.run(["unshare", "-m", "true"], capture_output=True)
    return os.geteuid() == 0 and tried.returncode == 0


@contextlib.contextmanager
def mounted(place: Path, *mount: str) -> Iterator[Path]:
    """Runs `mount`, with `place` as its last argument, and unmounts in the end."""
    place.mkdir(parents=True, exist_ok=True)
    subprocess.run([*mount, str(place)], check=True, capture_output=True)
    try:
        yield place
    finally:
        # Lazily: what is left of a host that failed must not keep the row from ending.
        subprocess.run(["umount", "-l", str(place)], check=False, capture_output=True)


@contextlib.contextmanager
def memory_disk(place: Path, mib: int) -> Iterator[Path]:
    """A tmpfs of this size."""
    with mounted(place, "mount", "-t", "tmpfs", "-o", f"size={mib}m", "tmpfs"):
        yield place


@contextlib.contextmanager
def ext4_disk(place: Path, mib: int) -> Iterator[Path]:
    """An ext4 of its own on a loop device."""
    image = place.with_suffix(".image")
    image.parent.mkdir(parents=True, exist_ok=True)
    make_ext4(image, mib)
    with mounted(place, "mount", "-o", "loop", str(image)):
        yield place
    image.unlink()


def make_ext4(image: Path, mib: int) -> None:
    """An image with an empty ext4 that has nothing left to write by itself later."""
    with image.open("wb") as file:
        file.truncate(mib * MIB)
    options = "lazy_itable_init=0,lazy_journal_init=0"
    command = ["mkfs.ext4", "-q", "-m", "0", "-E", options, str(image)]
    subprocess.run(command, check=True, capture_output=True)


class Ballast:
    """A file that takes whatever room a disk has, and gives it back at once."""

    def __init__(self, disk: Path) -> None:
        self.path = disk / "ballast"

    def fill(self) -> None:
        """Writes until not one byte fits."""
        with self.path.open("ab", buffering=0) as file:
            for size in (MIB, 4096, 1):
                with contextlib.suppress(OSError):
                    while True:
                        file.write(b"\x5a" * size)

    def remove(self) -> None:
        """Gives everything back."""
        self.path.unlink(missing_ok=True)
