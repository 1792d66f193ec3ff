"""Runs rows of the fault suite and prints their figures; `scripts/faults --help` says how.

A row that throws has missed its bar. Exit code 0 means that every row kept it; 1 that one did not; 2 that
the command line is wrong.
"""

import argparse
import asyncio
import shutil
import sys
import tempfile
import time
import traceback
from pathlib import Path

from faultsuite.report import Result, as_json, show, summary, table, write_page
from faultsuite.trial import Figure, Form, Row, Skipped, Trial, all_rows
from harness import BINARIES, PROFILE

LIMIT = {Form.SHORT: 300.0, Form.FULL: 3600.0}


async def run(row: Row, form: Form, keep: bool) -> list[Figure]:
    """Plays a row once, in a directory of its own."""
    directory = Path(tempfile.mkdtemp(prefix=f"bkg-fault-{row.id}-"))
    trial = Trial(form, directory)
    try:
        async with asyncio.timeout(LIMIT[form]):
            await row.play(trial)
    except Skipped:
        raise
    except Exception as problem:
        traceback.print_exc()
        show_logs(directory)
        said = str(problem).splitlines() or [type(problem).__name__]
        trial.figure("the row itself", f"{type(problem).__name__}: {said[0][:200]}", "ends", False)
    finally:
        if keep:
            print(f"{row.id}: kept in {directory}", file=sys.stderr)
        else:
            shutil.rmtree(directory, ignore_errors=True)
    return trial.figures


def show_logs(directory: Path) -> None:
    """Prints the ends of the hosts' logs."""
    for log in sorted(directory.rglob("bkg.log")):
        lines = log.read_text(errors="replace").splitlines()
        print(f"the end of {log.name}:", *lines[-30:], sep="\n    ", file=sys.stderr)


def main() -> int:
    """The command."""
    parser = argparse.ArgumentParser(
        prog="scripts/faults", description="Injects faults, and measures what holds."
    )
    forms = parser.add_mutually_exclusive_group()
    forms.add_argument("--short", action="store_true", help="small counts, wide bars of time; the default")
    forms.add_argument("--full", action="store_true", help="what docs/reliability.md promises")
    parser.add_argument("--list", action="store_true", help="say which rows there are, and stop")
    parser.add_argument("--runs", type=int, default=1, metavar="N", help="how often each row is played")
    parser.add_argument(
        "--out", type=Path, metavar="FILE", help="put the figures between the marks of this page"
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write everything there as JSON")
    parser.add_argument("--keep", action="store_true", help="leave the directories of the rows behind")
    parser.add_argument("rows", nargs="*", metavar="ROW", help="only these")
    wanted = parser.parse_args()
    rows = all_rows()
    if unknown := set(wanted.rows) - {row.id for row in rows}:
        parser.error(f"there is no row `{min(unknown)}`; `--list` says which there are")
    if wanted.list:
        for row in rows:
            print(f"{row.id:<18} {row.fault}: {row.bar}")
        return 0
    if not (BINARIES / "bkg").exists():
        parser.error("the daemon is not built; `cargo build --workspace` builds it")
    form = Form.FULL if wanted.full else Form.SHORT
    results = []
    for row in rows:
        if wanted.rows and row.id not in wanted.rows:
            continue
        result = Result(row, [])
        began = time.monotonic()
        try:
            for _ in range(wanted.runs):
                result.runs.append(asyncio.run(run(row, form, wanted.keep)))
        except Skipped as skipped:
            result.skipped = str(skipped)
        result.seconds = time.monotonic() - began
        show(result)
        results.append(result)
    print(f"\n{table(results)}")
    if wanted.json:
        wanted.json.write_text(as_json(results, form))
    if wanted.out:
        write_page(wanted.out, results, form, PROFILE)
    print(summary(results))
    return 0 if all(result.ok or result.skipped is not None for result in results) else 1


if __name__ == "__main__":
    sys.exit(main())
