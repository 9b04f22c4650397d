"""Whether this process has been confined: asked before any code is run that nobody shipped.

A mistake in how a process is started then ends in a refusal, not in foreign code that may reach
everything its user may.
"""

from __future__ import annotations

_standing: list[str] = []
"""Filled once by `launch.confine`, in the process that it confined, and in what that forks."""


def note_confined() -> None:
    """Called when every layer is in force; it cannot be undone."""
    _standing.append("confined")


def keep_text_out() -> None:
    """From now on this process runs no text that a researcher wrote: it holds what cells may not.

    It cannot be undone."""
    _standing.append("no-text")


def keeps_text_out() -> bool:
    """Whether text that a researcher wrote must not run here, confined or not."""
    return "no-text" in _standing


def is_confined() -> bool:
    """Whether this process gave up what it does not need."""
    return "confined" in _standing
