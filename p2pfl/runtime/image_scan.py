"""Work on a folder of images in a process of its own, which tells how far it is.

The libraries that read images are loaded there and nowhere else. It ends with its caller.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import IO, Final

from p2pfl.runtime.errors import EXIT_DATA, EXIT_UNAVAILABLE, OperatorError
from p2pfl.runtime.jsonable import Json

MODULE: Final = "p2pfl.learning.datasets.registration"
LINE_BYTES_MAX: Final = 1 << 20
COMPLAINT_CHARACTERS_MAX: Final = 1000
_PASSED_ON: Final = ("PATH", "HOME", "USER", "LANG", "LC_ALL", "LD_LIBRARY_PATH", "TMPDIR")

Progress = Callable[[int, int], None]


def run_scan(request: Mapping[str, str], progress: Progress, *, scratch: Path) -> Json:
    """Have a folder looked at; see `run_followed`."""
    return run_followed(MODULE, "The look at the images", dict(request), progress, scratch=scratch)


def run_followed(
    module: str,
    purpose: str,
    request: Mapping[str, Json],
    progress: Progress,
    *,
    scratch: Path,
) -> Json:
    """Have a module of ours work on images. Returns its facts; see the module that does it.

    purpose: completes "… answered nonsense"; scratch: where libraries may keep what they like.
    Raises OperatorError with its complaint.
    """
    # Our own interpreter and module; the request goes by standard input.
    with subprocess.Popen(  # noqa: S603
        [sys.executable, "-m", module],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=_environment(scratch),
    ) as process:
        try:
            return _followed(process, purpose, request, progress)
        finally:
            with contextlib.suppress(ProcessLookupError):
                process.kill()


def _followed(
    process: subprocess.Popen[bytes],
    purpose: str,
    request: Mapping[str, Json],
    progress: Progress,
) -> Json:
    pipes = (process.stdin, process.stdout, process.stderr)
    assert None not in pipes, "the process was started with pipes"
    given, answers, errors = (pipe for pipe in pipes if pipe is not None)
    complaints: list[bytes] = []
    listener = threading.Thread(target=_keep_end, args=(errors, complaints), daemon=True)
    listener.start()
    with contextlib.suppress(BrokenPipeError):  # what it says on stderr tells more
        given.write(json.dumps(request).encode())
        given.close()
    facts: Json = None
    for line in _lines(answers, purpose):
        match line:
            case {"done": int(done), "of": int(of)}:
                progress(done, of)
            case {"facts": found}:
                facts = found
    code = process.wait()
    listener.join()
    if code != 0 or facts is None:
        said = b"".join(complaints).decode("utf-8", "replace").strip().splitlines()
        raise _refusal(said[-1] if said else f"{purpose} ended without a word.")
    return facts


def _lines(stream: IO[bytes], purpose: str) -> Iterator[Mapping[str, Json]]:
    while raw := stream.readline(LINE_BYTES_MAX):
        try:
            line = json.loads(raw)
        except ValueError:
            raise OperatorError(
                f"{purpose} answered nonsense.",
                fix="Run `p2pfl version` to see whether the installation is whole.",
                exit_code=EXIT_UNAVAILABLE,
            ) from None
        if isinstance(line, dict):
            yield line


def _keep_end(stream: IO[bytes], kept: list[bytes]) -> None:
    """Empty the pipe, and remember the end of it."""
    while said := stream.readline(LINE_BYTES_MAX):
        kept[:] = [*kept[-20:], said]


def _refusal(sentence: str) -> OperatorError:
    problem, _, fix = sentence[:COMPLAINT_CHARACTERS_MAX].partition(" Fix: ")
    fix = fix[:1].upper() + fix[1:] if fix else "Correct what the sentence names."
    return OperatorError(problem, fix=fix.rstrip(".") + ".", exit_code=EXIT_DATA)


def _environment(scratch: Path) -> dict[str, str]:
    environment = {name: os.environ[name] for name in _PASSED_ON if name in os.environ}
    # The same code that runs here, wherever it was started from.
    environment["PYTHONPATH"] = os.pathsep.join(os.path.abspath(path) for path in sys.path if path)
    environment["MPLCONFIGDIR"] = str(scratch)
    return environment
