"""What goes wrong when a process is to be confined."""


class ConfinementError(Exception):
    """A layer could not be put in place: the process must not go on to run anybody's code."""
