"""Ten real nodes, and everything that goes wrong in a network of hospitals, for a given time.

    python -m simulations.chaos [--minutes 15] [--nodes 10] [--seed 1] [--faults kill,pause,…]

Founds a consortium in a folder, starts `p2pfl node start` once per site, keeps private studies
going, and does what a plan drawn from the seed says: kill -9, pause, partition, slow line, full
disk, clock jump. The plan is printed first; the same seed and options draw the same one. Network
faults and full disks need root, clock jumps need libfaketime: without, they are left out, and said.

Afterwards every study, ledger, ε, blob, log and process is judged, also where the last study did
not end in time or the run was interrupted (Ctrl-C, SIGTERM). Exit status 0: all is well.
"""

import argparse
import os
import signal
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from simulations.chaos.judging import judge
from simulations.chaos.people import StudyTerms
from simulations.chaos.plan import KINDS, draw_plan
from simulations.chaos.report import plan_lines, table, write_json
from simulations.chaos.run import Run
from simulations.chaos.stage import can_do, opened

NODES_MIN = 3


def main(arguments: Sequence[str] | None = None) -> int:
    """Run and judge. Returns the exit status."""
    asked = parse(arguments)
    kinds, sentences = can_do(asked.faults)
    for sentence in sentences:
        say(f"left out: {sentence}")
    lasts_s = asked.minutes * 60
    planned = draw_plan(seed=asked.seed, lasts_s=lasts_s, places=asked.nodes, kinds=kinds)
    say(f"plan of seed {asked.seed}, {len(planned)} faults ({', '.join(kinds) or 'none'}):")
    for line in plan_lines(planned):
        say(line)
    if asked.plan:
        return 0
    folder = Path(tempfile.mkdtemp(prefix="p2pfl-chaos-")) if asked.keep is None else asked.keep
    folder.mkdir(parents=True, exist_ok=True)
    terms = StudyTerms(asked.rounds, 2, asked.round_deadline, asked.epsilon)
    with opened(folder, asked.nodes, kinds) as stage:
        run = Run(stage, planned, terms, seed=asked.seed, say=say)
        course = run.perform(lasts_s, asked.settle_minutes * 60)
        say("judging …")
        findings = judge(stage.nodes, course)
    for line in table(findings, course):
        say(line)
    loads = "/".join(f"{load:.0f}" for load in os.getloadavg())
    lasted = f"{course.lasted_s:.0f} s of faults, {course.settled_s:.0f} s to the end"
    say(f"      {lasted}; load {loads}")
    say(f"      homes, logs and consoles: {folder}")
    if asked.json is not None:
        options = {"seed": asked.seed, "nodes": asked.nodes, "minutes": asked.minutes}
        nodes = stage.nodes
        write_json(asked.json, findings, course, planned, nodes, **options, left_out=sentences)
    return 1 if any(finding.wrong for finding in findings) else 0


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--minutes", type=float, default=15.0, help="of faults [15]")
    parser.add_argument("--nodes", type=int, default=10, help="sites [10]")
    parser.add_argument("--seed", type=int, default=1, help="of plan and patients [1]")
    parser.add_argument("--faults", type=_kinds, default=list(KINDS), help=",".join(KINDS))
    parser.add_argument("--rounds", type=int, default=60, help="of each study [60]")
    parser.add_argument("--epsilon", type=float, default=2.0, help="of each study [2]")
    parser.add_argument("--round-deadline", type=float, default=20.0, help="seconds [20]")
    parser.add_argument(
        "--settle-minutes", type=float, default=15.0, help="for the last study's end [15]"
    )
    parser.add_argument("--plan", action="store_true", help="print the plan, and nothing more")
    parser.add_argument("--keep", type=Path, help="folder for the homes [a new temporary one]")
    parser.add_argument("--json", type=Path, help="write everything to this file")
    asked = parser.parse_args(arguments)
    if asked.nodes < NODES_MIN:
        parser.error(f"--nodes: at least {NODES_MIN}")
    return asked


def _kinds(text: str) -> list[str]:
    named = [word for word in text.split(",") if word]
    unknown = [word for word in named if word not in KINDS]
    if unknown:
        raise argparse.ArgumentTypeError(f"{unknown[0]} is none of {','.join(KINDS)}")
    return [kind for kind in KINDS if kind in named]


def say(line: str) -> None:
    """One line for whoever watches."""
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    sys.exit(main())
