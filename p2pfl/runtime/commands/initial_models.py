"""The initial model that a researcher's text or a bundle made, confined: read like a stranger's."""

from __future__ import annotations

import os
from pathlib import Path

from gossip.identifiers import Digest
from p2pfl.runtime.blobs import BlobStore
from p2pfl.runtime.encoding import Rounding
from p2pfl.runtime.errors import EXIT_DATA, BlobError, OperatorError
from p2pfl.runtime.home import Home
from p2pfl.runtime.training_jobs import opened_update
from p2pfl.runtime.vector_files import Layout


def keep_initial(home: Home, made: Path, parameters: int, whose: str) -> Digest:
    """Check the vector that was written to `made`, keep it, and return its digest.

    whose: what made it, as people say: "plan". Raises OperatorError."""
    try:
        with opened_update(made, parameters) as model:
            layout = Layout("float32", parameters)
            digest, _ = BlobStore(home.blobs).write_blocks(
                model.again, layout, Rounding(os.urandom)
            )
    except BlobError as error:
        raise OperatorError(
            f"The {whose}'s initial model is unusable: {error}.",
            fix="Its parameters have to be finite float32 numbers as the model is made.",
            exit_code=EXIT_DATA,
        ) from error
    return Digest(digest)
