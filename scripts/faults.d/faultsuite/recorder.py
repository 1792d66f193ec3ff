"""A disk that writes down what it is told: the image behind a block device, with every write and flush.

Run as a program it is a FUSE file system of one file, the image, spoken over `/dev/fuse` without any
library. A loop device on that file makes a block device of it; what a file system writes there arrives
here as writes, and its barriers as flushes. `Recording` reads them back and makes the image that a power
cut at any moment leaves.

What is modelled: everything before the last flush that was answered is on the disk. Of the writes after
it, each sector of 512 bytes is there or not by chance, whatever the order they came in. Not modelled: a
disk that lies about flushes, and sectors that are neither old nor new.
"""

import ctypes
import os
import random
import stat
import struct
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

SECTOR = 512
MOST = 128 << 10
FILE = 2
WRITE, FLUSH = b"W", b"F"
WRITE_HEAD = struct.Struct("<cQI")
ENOSYS, ENOENT = 38, 2
# The numbers of `linux/fuse.h`.
LOOKUP, FORGET, GETATTR, SETATTR, OPEN, READ, FUSE_WRITE, STATFS = 1, 2, 3, 4, 14, 15, 16, 17
RELEASE, FSYNC, FUSE_FLUSH, INIT, OPENDIR, READDIR, RELEASEDIR, INTERRUPT, DESTROY, FORGETS = (
    *(18, 20, 25, 26, 27, 28),
    *(29, 36, 38, 42),
)
BIG_WRITES = 1 << 5


class Server:
    """Answers the kernel until the file system is unmounted."""

    def __init__(self, device: int, image: Path, log: Path) -> None:
        self.device = device
        self.content = bytearray(image.read_bytes())
        self.log = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)

    def serve(self) -> None:
        """Reads one request after the other, so that what is recorded has an order."""
        while True:
            try:
                request = os.read(self.device, MOST + 8192)
            except OSError:
                return
            _, code, unique, node = struct.unpack_from("<IIQQ", request)
            if code in (FORGET, FORGETS, INTERRUPT):
                continue
            error, answer = self.answer(code, node, request[40:])
            os.write(self.device, struct.pack("<IiQ", 16 + len(answer), -error, unique) + answer)
            if code == DESTROY:
                return

    def answer(self, code: int, node: int, body: bytes) -> tuple[int, bytes]:
        """An error number, and what is answered where it is 0."""
        if code == INIT:
            major, minor, ahead, flags = struct.unpack_from("<IIII", body)
            del flags
            head = (major, min(minor, 31), ahead, BIG_WRITES, 16, 12, MOST, 1, 32, 0)
            return 0, struct.pack("<IIIIHHIIHHI28x", *head, 0)
        if code == LOOKUP:
            if body.rstrip(b"\0") != b"disk":
                return ENOENT, b""
            return 0, struct.pack("<QQQQII", FILE, 0, 3600, 3600, 0, 0) + self.attributes(FILE)
        if code in (GETATTR, SETATTR):
            return 0, struct.pack("<QII", 3600, 0, 0) + self.attributes(node)
        if code in (OPEN, OPENDIR):
            return 0, struct.pack("<QII", 1, 0, 0)
        if code == READ:
            _, offset, size = struct.unpack_from("<QQI", body)
            return 0, bytes(self.content[offset : offset + size])
        if code == FUSE_WRITE:
            _, offset, size = struct.unpack_from("<QQI", body)
            data = body[40 : 40 + size]
            self.content[offset : offset + size] = data
            os.write(self.log, WRITE_HEAD.pack(WRITE, offset, size) + data)
            return 0, struct.pack("<II", size, 0)
        if code == FSYNC:
            os.write(self.log, WRITE_HEAD.pack(FLUSH, 0, 0))
            return 0, b""
        if code == STATFS:
            return 0, struct.pack("<QQQQQIII28x", 1 << 20, 1 << 20, 1 << 20, 9, 9, 4096, 255, 4096)
        if code in (READDIR, RELEASE, RELEASEDIR, FUSE_FLUSH, DESTROY):
            return 0, b""
        return ENOSYS, b""

    def attributes(self, node: int) -> bytes:
        """Those of the root or of the image."""
        is_file = node == FILE
        size = len(self.content) if is_file else 0
        mode = (stat.S_IFREG | 0o600) if is_file else (stat.S_IFDIR | 0o700)
        times = (0, 0, 0, 0, 0, 0)
        return struct.pack("<QQQQQQIIIIIIIIII", node, size, size // 512, *times, mode, 1, 0, 0, 0, 4096, 0)


def serve(image: Path, place: Path, log: Path) -> None:
    """Mounts, and answers until it is unmounted."""
    device = os.open("/dev/fuse", os.O_RDWR)
    libc = ctypes.CDLL(None, use_errno=True)
    options = f"fd={device},rootmode=40000,user_id=0,group_id=0".encode()
    if libc.mount(b"recorder", str(place).encode(), b"fuse", 6, options) != 0:
        raise OSError(ctypes.get_errno(), "the recorder cannot be mounted")
    Server(device, image, log).serve()


class RecordingDisk:
    """A block device that writes everything down, from a fresh image."""

    def __init__(self, directory: Path, image: Path) -> None:
        self.place = directory / "recorder"
        self.log = directory / "recording"
        self.image = image
        self.place.mkdir()
        self.log.touch()
        command = [sys.executable, "-uB", "-m", "faultsuite.recorder"]
        command += [str(image), str(self.place), str(self.log)]
        self.process = subprocess.Popen(command, cwd=Path(__file__).parents[1])
        deadline = time.monotonic() + 10
        while not (self.place / "disk").exists():
            assert self.process.poll() is None, "the recorder is mounted"
            assert time.monotonic() < deadline, "the recorder is mounted in time"
            time.sleep(0.01)
        shown = subprocess.run(
            ["losetup", "--find", "--show", str(self.place / "disk")],
            check=True,
            capture_output=True,
            text=True,
        )
        self.device = shown.stdout.strip()

    def position(self) -> int:
        """How much has been written down, in bytes of the recording."""
        return self.log.stat().st_size

    def close(self) -> None:
        """Takes the device and the file system away; the recording stays."""
        subprocess.run(["losetup", "--detach", self.device], check=False, capture_output=True)
        subprocess.run(["umount", "-l", str(self.place)], check=False, capture_output=True)
        self.process.terminate()
        self.process.wait()


def entries(log: Path) -> Iterator[tuple[int, bytes, int, bytes]]:
    """Every entry of a recording: where it ends, what it is, and of a write the place and the bytes."""
    with log.open("rb") as file:
        while len(head := file.read(WRITE_HEAD.size)) == WRITE_HEAD.size:
            kind, offset, size = WRITE_HEAD.unpack(head)
            data = file.read(size)
            yield file.tell(), kind, offset, data


def moments(
    log: Path, began: int, ended: int, marks: list[int], count: int, chance: random.Random
) -> list[int]:
    """Where to cut: half of them at a mark, the others just before a flush, when most is on its way."""
    flushes = [
        end - WRITE_HEAD.size for end, kind, _, _ in entries(log) if kind == FLUSH and began < end < ended
    ]
    at_marks = chance.choices(marks, k=count // 2)
    return at_marks + chance.choices(flushes, k=count - len(at_marks))


def images(
    base: Path, log: Path, cuts: list[int], target: Path, chance: random.Random
) -> Iterator[tuple[int, int]]:
    """Writes to `target`, one after the other, what power cuts at these positions leave; answers each with
    the number of sectors that were on their way."""
    durable = bytearray(base.read_bytes())
    on_the_way: list[tuple[int, bytes]] = []
    left = sorted(cuts)
    for end, kind, offset, data in entries(log):
        while left and left[0] < end:
            yield left[0], cut(durable, on_the_way, target, chance)
            left.pop(0)
        if kind == WRITE:
            on_the_way.append((offset, data))
        else:
            for place, written in on_the_way:
                durable[place : place + len(written)] = written
            on_the_way.clear()
    for position in left:
        yield position, cut(durable, on_the_way, target, chance)


def cut(
    durable: bytearray, on_the_way: list[tuple[int, bytes]], target: Path, chance: random.Random
) -> int:
    """Writes one image; the writes on their way come in any order, and by sectors or not at all."""
    content = bytearray(durable)
    shuffled = chance.sample(on_the_way, len(on_the_way))
    kept = chance.choice((0.0, 0.1, 0.5, 0.9, 1.0))
    sectors = 0
    for place, data in shuffled:
        for start in range(0, len(data), SECTOR):
            sectors += 1
            if chance.random() < kept:
                content[place + start : place + start + SECTOR] = data[start : start + SECTOR]
    target.write_bytes(content)
    return sectors


if __name__ == "__main__":
    serve(*(Path(argument) for argument in sys.argv[1:4]))
