"""What a person sees while something takes longer than they like to wait, and long lists in pages.

Nothing of it appears when the output is piped: programs get results alone.
"""

from __future__ import annotations

import contextlib
import io
import pydoc
import shutil
import sys
from collections.abc import Callable, Iterator


@contextlib.contextmanager
def working(sentence: str) -> Iterator[None]:
    """Show `sentence` with the time that has passed while the block runs, on a terminal only."""
    from rich.console import Console
    from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

    console = Console(stderr=True, highlight=False, markup=False)
    if not console.is_terminal:
        yield
        return
    columns = (SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn())
    # Lines printed meanwhile go above the spinner; what is piped must not go to the terminal.
    redirect = sys.stdout.isatty()
    with Progress(*columns, console=console, transient=True, redirect_stdout=redirect) as progress:
        progress.add_task(sentence, total=None)
        yield


@contextlib.contextmanager
def counted(words: str) -> Iterator[Callable[[int, int], None]]:
    """Show a bar while the block runs, on a terminal only; yields what to tell (done, of)."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

    console = Console(stderr=True, highlight=False, markup=False)
    columns = (TextColumn(words), BarColumn(), MofNCompleteColumn())
    bar = Progress(*columns, console=console, transient=True, disable=not console.is_terminal)
    with bar:
        task = bar.add_task("", total=None)
        yield lambda done, of: bar.update(task, completed=done, total=of)


@contextlib.contextmanager
def paged(lines: int) -> Iterator[None]:
    """What is printed inside goes through the pager if it has more `lines` than the terminal."""
    if not sys.stdout.isatty() or lines < shutil.get_terminal_size().lines:
        yield
        return
    text = io.StringIO()
    with contextlib.redirect_stdout(text):
        yield
    pydoc.pager(text.getvalue())
