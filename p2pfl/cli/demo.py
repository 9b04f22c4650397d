"""`p2pfl demo`: hospitals train together on this machine, from key generation to audit."""

from __future__ import annotations

import contextlib
import shutil
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

if TYPE_CHECKING:
    from p2pfl.cli.demo_stage import DemoTerms

MARKER: Final = ".p2pfl-demo"
LIMIT_S: Final = 900.0
SITES_MAX: Final = 16

app = typer.Typer(rich_markup_mode=None)


@app.command()
def demo(
    sites: Annotated[int, typer.Option(min=2, max=SITES_MAX, help="How many hospitals.")] = 4,
    rounds: Annotated[int, typer.Option(min=1, max=1000, help="Rounds with training.")] = 30,
    seed: Annotated[int, typer.Option(min=0, help="Of splits, initial model and order.")] = 7,
    rule: Annotated[str, typer.Option(help="Averaging rule, like gm_clip or median.")] = "gm_clip",
    plan: Annotated[
        str, typer.Option(help="tabular-logistic or tabular-mlp.")
    ] = "tabular-logistic",
    argument: Annotated[
        list[str] | None,
        typer.Option(help="NAME=VALUE of the plan, in place of the demonstration's own."),
    ] = None,
    encoding: Annotated[
        str, typer.Option(help="Of updates on their way: float32, bf16 or int8.")
    ] = "float32",
    compare: Annotated[
        bool, typer.Option(help="Train alone and on pooled data, too, and compare.")
    ] = True,
    privacy: Annotated[str, typer.Option(help="eps=X over the whole study, or none.")] = "eps=3",
    data: Annotated[
        Path | None, typer.Option(help="Folder with the four UCI heart-disease files.")
    ] = None,
    home: Annotated[
        Path | None,
        typer.Option(
            help="Folder for the hospitals' homes [default: temporary].", show_default=False
        ),
    ] = None,
    keep: Annotated[bool, typer.Option("--keep", help="Keep the homes afterwards.")] = False,
    json: Annotated[Path | None, typer.Option(help="Write the results to this file.")] = None,
) -> None:
    """Hospitals train together on this machine: real nodes, real libp2p, real ledgers."""
    from p2pfl.cli.demo_stage import DemoTerms

    _check_names(rule, plan)
    epsilon = _epsilon(privacy)
    if data is not None and sites != 4:
        raise typer.BadParameter("the heart-disease data has 4 hospitals", param_hint="--sites")
    with demo_folder(home, keep=keep) as folder:
        where = data.absolute() if data is not None else None
        chosen = tuple(argument or ())
        asked = (sites, rounds, seed, rule, plan, epsilon, where, chosen, encoding, compare)
        terms = DemoTerms(folder, *asked)
        _run(terms, keep, json)


def _run(terms: DemoTerms, keep: bool, json_file: Path | None) -> None:
    from p2pfl.cli import demo_nodes, demo_result
    from p2pfl.cli.demo_result import say
    from p2pfl.cli.demo_stage import set_stage

    started_s = time.monotonic()
    stage = set_stage(terms, say)
    say()
    demo_result.say_wrapped(f"Privacy: {stage.privacy}")
    demo_result.say_wrapped(f"Robustness: {stage.robustness}")
    say()
    say(f"{len(stage.sites)} nodes start, each as `p2pfl --home … node start`:")
    with demo_nodes.running_nodes(stage.sites) as watched:
        demo_nodes.watch(watched, limit_s=LIMIT_S)
    say()
    if terms.is_compared:
        say("The nodes have stopped. Comparing with training alone and with pooled data …")
        compared = demo_result.compare_models(stage)
    else:
        say("The nodes have stopped.")
        compared = [{} for _ in stage.sites]
    spent = [demo_result.spending_of(site) for site in stage.sites]
    say("Auditing every ledger, computing every average again …")
    audited = demo_result.audit_sites(stage)
    wall_s = time.monotonic() - started_s
    result = demo_result.result_json(terms, stage, watched, compared, spent, audited, wall_s)
    demo_result.tell(terms, stage, compared, spent, audited, result, keep)
    if json_file is not None:
        demo_result.write_json(json_file, result)


def _check_names(rule: str, plan: str) -> None:
    """Before anything is made. Raises typer.BadParameter."""
    from p2pfl.core.manifest import RULES
    from p2pfl.runtime.policy import PLANS

    for option, given, known in (("--rule", rule, RULES), ("--plan", plan, PLANS)):
        if given not in known:
            listed = ", ".join(known)
            raise typer.BadParameter(f'is "{given}", expected one of {listed}', param_hint=option)


def _epsilon(privacy: str) -> float | None:
    if privacy == "none":
        return None
    name, _, value = privacy.partition("=")
    try:
        epsilon = float(value)
    except ValueError:
        epsilon = -1.0
    if name != "eps" or not 0.01 <= epsilon <= 100:
        raise typer.BadParameter(
            f'is "{privacy}", expected none or eps=X with X from 0.01 to 100',
            param_hint="--privacy",
        )
    return epsilon


@contextlib.contextmanager
def demo_folder(home: Path | None, *, keep: bool) -> Iterator[Path]:
    """The folder for the homes: a fresh one, or that of an earlier demonstration, emptied."""
    if home is None:
        folder = Path(tempfile.mkdtemp(prefix="p2pfl-demo-"))
    else:
        folder = home.absolute()
        _empty(folder)
        folder.mkdir(mode=0o700, parents=True)
    (folder / MARKER).touch()
    try:
        yield folder
    finally:
        if not keep:
            shutil.rmtree(folder, ignore_errors=True)


def _empty(folder: Path) -> None:
    from p2pfl.runtime.errors import EXIT_CANNOT_CREATE, OperatorError

    if folder.is_dir() and (folder / MARKER).is_file():
        shutil.rmtree(folder)
    elif folder.is_dir() and not any(folder.iterdir()):
        folder.rmdir()
    elif folder.exists():
        raise OperatorError(
            f"{folder} exists and is not the folder of an earlier demonstration.",
            fix="Name another folder with --home; nothing was changed.",
            exit_code=EXIT_CANNOT_CREATE,
        )
