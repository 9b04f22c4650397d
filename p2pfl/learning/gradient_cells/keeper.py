"""The keeper of cells: `python -m p2pfl.learning.gradient_cells.keeper`, started by the node.

It holds a study's manifest, the current model and loaded libraries, and forks a cell whenever the
worker asks. What a cell does cannot change it: it learns neither a cell's number nor how or when
it ended (the kernel clears cells away, and ends those that are late), so that the next cell is
forked from the same memory as if there had never been another one. Text that a researcher wrote is
compiled here, for speed, and run only in cells.
"""

from __future__ import annotations

import argparse
import ast
import base64
import contextlib
import gc
import importlib
import os
import signal
import socket
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from p2pfl.core.manifest import parse_manifest
from p2pfl.core.manifest_terms import Manifest
from p2pfl.learning.gradient_cells import wire
from p2pfl.runtime.confinement.errors import EXIT_NOT_CONFINED, ConfinementError
from p2pfl.runtime.confinement.standing import is_confined

EXIT_REQUEST: Final = 2
_MAPS: Final = Path("/proc/self/maps")


class Keeper:
    """What cells are forked with."""

    def __init__(self, control: socket.socket, cell_filter: bytes) -> None:
        self._control = control
        self._filter = cell_filter
        self._manifest: Manifest | None = None
        self._model = b""

    def serve(self) -> int:
        """Answer until the worker is gone. Returns the exit status."""
        while True:
            packet, descriptors, _, _ = socket.recv_fds(self._control, wire.PACKET_BYTES_MAX, 2)
            if not packet:
                return 0
            match packet[:1], len(descriptors):
                case wire.STUDY, 1:
                    self._manifest = _prepared(parse_manifest(_all_of(descriptors[0])))
                case wire.MODEL, 1:
                    self._model = _all_of(descriptors[0])
                case wire.CELL, 2 if self._manifest is not None:
                    limit_ms = int.from_bytes(packet[1:], "big")
                    self._fork(self._manifest, descriptors, limit_ms / 1000)
                case _:
                    return EXIT_REQUEST  # our own worker does not do this

    def _fork(self, manifest: Manifest, descriptors: Sequence[int], limit_s: float) -> None:
        keeper = os.getpid()
        if os.fork() != 0:
            for one in descriptors:
                os.close(one)
            return
        from p2pfl.learning.gradient_cells import cell

        cell.become(descriptors[0], descriptors[1], self._filter, keeper, limit_s)
        cell.run(manifest, self._model)


def _all_of(descriptor: int) -> bytes:
    with os.fdopen(descriptor, "rb") as stream:
        return stream.read()


def _prepared(manifest: Manifest) -> Manifest:
    """Load what the text imports: a cell opens no file. Nothing of the text itself is run."""
    from p2pfl.learning.plans.code import compiled

    assert manifest.code is not None, "the worker asks for cells where there is a text"
    compiled(manifest.code.text)
    for name in imported(manifest.code.text):
        root = name.partition(".")[0]
        if root in sys.stdlib_module_names or root in manifest.code.packages:
            # What is missing is missed by the text, in a cell, with its line.
            with contextlib.suppress(Exception):
                importlib.import_module(name)
    _rest()
    return manifest


def imported(text: str) -> tuple[str, ...]:
    """Every module a text names in an import, sorted.

    >>> imported("import torch.nn as nn\\nfrom math import pi")
    ('math', 'math.pi', 'torch.nn')
    """
    found: set[str] = set()
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            found |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return tuple(sorted(found))


def _warm_up() -> None:
    """Load what torch loads on first use: in a cell it could not be opened any more."""
    # Builds of torch for CUDA ask a compiler where libraries are, which needs a folder to write in.
    os.environ["PATH"] = ""
    import torch
    from torch.nn import functional

    # Cells are forked with them.
    import p2pfl.learning.gradient_cells.cell
    import p2pfl.learning.plans.code_model
    import p2pfl.learning.plans.code_score  # noqa: F401 - for what they load

    torch.set_num_threads(1)
    flat = torch.nn.Linear(3, 2)
    torch.autograd.backward(flat(torch.zeros(1, 3)).logsumexp(1).sum())
    image = torch.nn.Conv2d(1, 2, 3)(torch.zeros(1, 1, 5, 5))
    torch.autograd.backward(functional.group_norm(functional.max_pool2d(image, 2), 1).mean())
    _rest()


def _rest() -> None:
    """Whatever is here now is shared by all cells: the collector must not touch, and copy, it."""
    gc.collect()
    gc.freeze()
    gc.disable()


def shared_mappings(maps: str) -> tuple[str, ...]:
    """Memory that cells could write for each other to read, as /proc/self/maps names it.

    >>> shared_mappings("7f-8f rw-s 0 00:01 5 /dev/shm/x\\n8f-9f rw-p 0 00:00 0")
    ('/dev/shm/x',)
    """
    lines = [line.split(maxsplit=5) for line in maps.splitlines()]
    writable = [line for line in lines if "w" in line[1] and line[1].endswith("s")]
    return tuple(line[5] if len(line) > 5 else "anonymous" for line in writable)


def main(arguments: Sequence[str]) -> int:
    """Load torch, then fork cells until the worker is gone."""
    parser = argparse.ArgumentParser(prog="p2pfl.learning.gradient_cells.keeper")
    parser.add_argument("--control", type=int, required=True, help="descriptor of the socket")
    parser.add_argument("--filter", required=True, help="cells' filter of system calls, base64")
    parser.add_argument("--parent", type=int, default=0, help="pid of the node")
    given = parser.parse_args(arguments)
    if given.parent and os.getppid() != given.parent:
        return 3
    if not is_confined():
        sys.stderr.write("cells are kept in a confined process only\n")
        return EXIT_NOT_CONFINED
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # the kernel clears cells away
    _warm_up()
    shared = shared_mappings(_MAPS.read_text(encoding="utf-8"))
    if shared:
        raise ConfinementError(f"cells would share memory: {', '.join(shared)}")
    control = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET, fileno=given.control)
    return Keeper(control, base64.b64decode(given.filter)).serve()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
