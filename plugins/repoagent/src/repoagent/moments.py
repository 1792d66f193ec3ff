"""Times of the file system as answers say them."""

from datetime import UTC, datetime


def rfc3339(nanoseconds: int) -> str:
    """A time since 1970 in nanoseconds as RFC 3339 in UTC, in milliseconds."""
    try:
        moment = datetime.fromtimestamp(nanoseconds / 1e9, UTC)
    except (ValueError, OverflowError, OSError):
        moment = datetime.fromtimestamp(0, UTC)  # A file may claim a time beyond what a calendar holds.
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")
