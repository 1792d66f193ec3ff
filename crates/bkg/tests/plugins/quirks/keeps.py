"""Keeps what it is told, and writes copies of it when the host asks for a backup.

`quirk.keep` answers when the row is on the disk, `quirk.kept` counts the rows, and `quirk.churn` makes a
file that never holds still. What `lifecycle.backup` does is said by BKG_KEEPS: `writes` copies the
database, `lies` names a file that is not there, `links` one that leads elsewhere.
"""

import os
import sqlite3
import threading
from pathlib import Path
from typing import Any

from base_plugin import DATA, Bus, Failure

rows = sqlite3.connect(DATA / "kept.db", check_same_thread=False)
rows.execute("PRAGMA journal_mode = WAL")
rows.execute("PRAGMA synchronous = FULL")
rows.execute("CREATE TABLE IF NOT EXISTS kept (value INTEGER)")


def keep(payload: Any) -> Any:
    with rows:
        rows.execute("INSERT INTO kept VALUES (?)", (payload["value"],))
    return {}


def kept(_: Any) -> Any:
    return {"values": [value for (value,) in rows.execute("SELECT value FROM kept ORDER BY value")]}


def churn(_: Any) -> Any:
    def write() -> None:
        while True:
            (DATA / "churn.txt").write_text(os.urandom(16).hex())

    threading.Thread(target=write, daemon=True).start()
    return {}


def backup(payload: Any) -> Any:
    directory = Path(payload["directory"])
    if any(directory.iterdir()):
        raise Failure("the directory is not empty")
    match os.environ.get("BKG_KEEPS"):
        case "lies":
            return {"files": ["nothing.db"]}
        case "links":
            (directory / "leads").symlink_to("/etc")
            return {"files": ["leads/hostname"]}
        case _:
            with sqlite3.connect(directory / "kept.db") as copy:
                rows.backup(copy)
            copy.close()
            (directory / "deep").mkdir()
            (directory / "deep" / "note").write_text("written for the backup")
            (directory / "mine.key").write_text("a key")
            return {"files": ["kept.db", "deep/note", "mine.key"]}


bus = Bus()
answers = {"quirk.keep": keep, "quirk.kept": kept, "quirk.churn": churn}
if "BKG_KEEPS" in os.environ:
    answers["lifecycle.backup"] = backup
bus.offer(answers)
bus.serve()
