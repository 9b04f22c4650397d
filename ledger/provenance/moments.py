"""Times for people, in UTC. A clock that was absurdly wrong is shown as it is."""

from datetime import UTC, datetime

from ledger.provenance.fields import MICRO


def moment_of(time_us: int) -> str:
    """Date and time to the second."""
    return _shown(time_us, "%Y-%m-%d %H:%M:%S UTC")


def minute_of(time_us: int) -> str:
    """Date and time to the minute."""
    return _shown(time_us, "%Y-%m-%d %H:%M")


def second_of(time_us: int) -> str:
    """The time of the day to the second."""
    return _shown(time_us, "%H:%M:%S")


def day_of(time_us: int) -> str:
    """The date alone."""
    return _shown(time_us, "%Y-%m-%d")


def _shown(time_us: int, form: str) -> str:
    try:
        return datetime.fromtimestamp(time_us // MICRO, UTC).strftime(form)
    except (ValueError, OverflowError, OSError):
        return f"{time_us} µs"
