"""The node's end of gradient cells: two confined processes for one study, ended as one."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import numpy as np
import pytest
from learn_cells import PARAMETERS, study
from learn_texts import PLAIN

from p2pfl.learning.vector import read_vector, write_vector
from p2pfl.runtime.confinement.errors import ConfinementError
from p2pfl.runtime.confinement.terms import Terms, terms_here
from p2pfl.runtime.gradient_keeper import start_with_cells
from p2pfl.runtime.training_answers import TrainingError, opened, trained
from p2pfl.runtime.training_process import WORKER


def here(read: Path, write: Path) -> Terms:
    try:
        return terms_here().with_paths((read,), (write,))
    except ConfinementError as error:
        pytest.skip(f"this machine cannot confine: {error}")


def table_on_disk(folder: Path) -> Path:
    rows = np.random.Generator(np.random.PCG64(3)).uniform(-1, 1, (12, 4)).round(3)
    lines = [",".join([*map(str, row), str(int(row[0] > 0))]) for row in rows]
    path = folder / "data.csv"
    path.write_text("\n".join(["c0,c1,c2,c3,sick", *lines]) + "\n")
    return path


def is_gone(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    return False


def test_a_study_with_cells_opens_trains_scores_and_ends_whole(tmp_path: Path) -> None:
    data, scratch = table_on_disk(tmp_path), tmp_path / "scratch"
    scratch.mkdir()
    base, out = scratch / "base", scratch / "out"
    write_vector(base, np.zeros(PARAMETERS, dtype=np.float32))

    async def run() -> None:
        terms = here(data, scratch)
        process = await start_with_cells(tmp_path / "log", scratch, WORKER, terms)
        keeper = process.companion
        assert keeper is not None
        try:
            answer = await process.ask(
                "open",
                manifest=study(PLAIN),
                dataset=str(data),
                patient_column="",
                denominator=10,
                threads=1,
                materials={},
            )
            assert opened(answer).parameters == PARAMETERS
            done = await process.ask("train", round=0, base=str(base), out=str(out), arguments={})
            spent = trained(done).spending
            assert (spent.mech, spent.sigma, spent.q, spent.steps) == ("gaussian", "2.0", "1.0", 1)
            assert read_vector(out, PARAMETERS).std() > 0.05, "noise of σC/n at least"
            scored = await process.ask("score", model=str(out))
            assert 0.0 <= scored["measures"]["right"] <= 1.0
            await keeper.kill()
            with pytest.raises(TrainingError, match="gradient cells is gone"):
                await process.ask("train", round=1, base=str(base), out=str(out), arguments={})
        finally:
            await process.kill()
        assert is_gone(process.pid)
        assert is_gone(keeper.pid)

    asyncio.run(run())
