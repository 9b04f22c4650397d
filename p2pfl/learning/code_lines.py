"""Where in a researcher's text an error came from."""

from __future__ import annotations

import traceback
from typing import Final

FILE: Final = "plan.py"
"""What the text is called in every message, whatever file it came from."""


def line_in_text(error: BaseException) -> int:
    """The deepest line of the text that an error came through; 0: none of it."""
    frames = traceback.walk_tb(error.__traceback__)
    lines = [line for frame, line in frames if frame.f_code.co_filename == FILE]
    return lines[-1] if lines else 0
