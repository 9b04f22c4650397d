"""Starting the keeper of a study's gradient cells beside its training process.

The two talk over a socket that they inherit; the node itself never speaks to the keeper, and ends
it together with the training process."""

import base64
import socket
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from p2pfl.runtime.confinement.cell_filter import cell_program
from p2pfl.runtime.confinement.errors import ConfinementError
from p2pfl.runtime.confinement.terms import Terms, keeper_terms
from p2pfl.runtime.training_answers import TrainingError
from p2pfl.runtime.training_process import TrainingProcess

KEEPER: Final = (sys.executable, "-m", "p2pfl.learning.gradient_cells.keeper")


async def start_with_cells(
    log: Path, scratch: Path, program: Sequence[str], terms: Terms
) -> TrainingProcess:
    """A training process whose gradients come from cells. Raises OSError, TrainingError."""
    try:
        given, cell_filter = keeper_terms(terms), cell_program()
    except ConfinementError as error:
        raise TrainingError("confinement", f"no gradient cells on this machine: {error}") from error
    asking, keeping = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with asking, keeping:
        control, filter_text = str(keeping.fileno()), base64.b64encode(cell_filter).decode()
        keeper = await TrainingProcess.start(
            log,
            scratch,
            (*KEEPER, "--control", control, "--filter", filter_text),
            given,
            inherited=(keeping.fileno(),),
        )
        try:
            return await TrainingProcess.start(
                log,
                scratch,
                (*program, "--cells", str(asking.fileno())),
                terms,
                inherited=(asking.fileno(),),
                companion=keeper,
            )
        except OSError:
            await keeper.kill()
            raise
