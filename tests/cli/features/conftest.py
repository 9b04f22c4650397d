"""Two hospitals whose nodes run in the background and have finished a study: made once."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from feat_stage import Finished
from ops_sites import done, p2pfl

from p2pfl.cli.demo_stage import DATASET, DemoTerms, set_stage
from p2pfl.runtime.home import Home


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Finished]:
    """Everything through the real commands: found, approve, start, watch to the end."""
    folder = tmp_path_factory.mktemp("hospitals")
    terms = DemoTerms(folder, 2, 2, 7, "gm_clip", "tabular-logistic", 3.0, None)
    stage = set_stage(terms, lambda line: None)
    homes = tuple(site.home for site in stage.sites)
    try:
        started = [p2pfl("--home", home, "node", "start", "--background") for home in homes]
        assert [ran.code for ran in started] == [0, 0], started
        watched = p2pfl("--home", homes[0], "study", "watch", stage.study[:12])
        done("--home", homes[1], "study", "watch", stage.study[:12])
        tables = tuple(site.csv for site in stage.sites)
        yield Finished(folder, homes, tables, stage.study, DATASET, started[0], watched)
    finally:
        for home in homes:
            stop(home)


def stop(home: Path) -> None:
    """Stop a node that may not run."""
    if Home(home).node_pid.exists():
        p2pfl("--home", home, "node", "stop")
