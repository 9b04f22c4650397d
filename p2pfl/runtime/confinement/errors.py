"""What goes wrong when a process is to be confined."""

from typing import Final

EXIT_NOT_CONFINED: Final = 77
"""With which a child ends that was to be confined and is not."""


class ConfinementError(Exception):
    """A layer could not be put in place: the process must not go on to run anybody's code."""
