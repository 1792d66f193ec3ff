"""Takes memory, processes or processor time until something stops it; it never registers.

It gives up by itself after what no test takes, so that a machine without limits survives it as well:
512 MiB, 1,024 processes, 60 seconds.
"""

import os
import sys
import time

MEMORY_MIB = 512
DOUBLINGS = 10
SECONDS = 60


def memory() -> None:
    """One MiB after the other, each of them touched."""
    hoard = [b"x" * (1 << 20) for _ in range(MEMORY_MIB)]
    time.sleep(SECONDS)
    del hoard


def processes(until: float) -> None:
    """Every process forks as often as it can; together they would be two to the tenth."""
    for _ in range(DOUBLINGS):
        try:
            os.fork()
        except OSError:
            time.sleep(0.01)
    while time.monotonic() < until:
        time.sleep(0.1)


def processor(until: float) -> None:
    """All of one core."""
    while time.monotonic() < until:
        pass


if __name__ == "__main__":
    match sys.argv[1]:
        case "memory":
            memory()
        case "processes":
            processes(time.monotonic() + SECONDS)
        case "processor":
            processor(time.monotonic() + SECONDS)
