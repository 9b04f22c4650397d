"""`p2pfl demo-tumour`: hospitals learn together to mark brain tumours, on this machine."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated, Final

import typer

LIMIT_S: Final = 900.0
SITES_MAX: Final = 8

app = typer.Typer(rich_markup_mode=None)


@app.command("demo-tumour")
def demo_tumour(
    sites: Annotated[int, typer.Option(min=3, max=SITES_MAX, help="How many hospitals.")] = 5,
    patients: Annotated[int, typer.Option(min=60, max=2000, help="In all hospitals.")] = 200,
    side: Annotated[
        int, typer.Option(min=16, max=128, help="Voxels of a volume's side; a multiple of 4.")
    ] = 24,
    rounds: Annotated[int, typer.Option(min=1, max=200, help="Rounds without privacy.")] = 8,
    private_rounds: Annotated[
        int, typer.Option(min=0, max=200, help="Rounds with privacy; 0 leaves that study out.")
    ] = 15,
    epsilon: Annotated[float, typer.Option(min=0.1, max=100.0, help="ε of those rounds.")] = 8.0,
    seed: Annotated[int, typer.Option(min=0, help="Of patients, scanners, splits, models.")] = 7,
    pictures: Annotated[Path, typer.Option(help="Folder for overlay.png and curves.png.")] = Path(
        "demo-tumour"
    ),
    home: Annotated[
        Path | None, typer.Option(help="Folder for the hospitals' homes [default: temporary].")
    ] = None,
    keep: Annotated[bool, typer.Option("--keep", help="Keep the homes afterwards.")] = False,
    is_compared: Annotated[
        bool,
        typer.Option(
            "--compare/--no-compare", help="Train own-data-only and pooled models, and draw."
        ),
    ] = True,
    json: Annotated[Path | None, typer.Option(help="Write the results to this file.")] = None,
) -> None:
    """Hospitals learn together to mark tumours in 3D: real nodes, ledgers, UNets; no real patient.

    Two studies on the same synthetic patients, one without and one with differential privacy.
    """
    from p2pfl.cli import demo_tumour_result, demo_tumour_stage
    from p2pfl.cli.demo import demo_folder
    from p2pfl.cli.demo_result import say, write_json

    if side % 4:
        raise typer.BadParameter("has to be a multiple of 4", param_hint="--side")
    terms = demo_tumour_stage.TumourTerms(
        sites, patients, side, rounds, private_rounds, epsilon, seed, pictures.absolute()
    )
    started_s = time.monotonic()
    with demo_folder(home, keep=keep) as folder:
        hospitals = demo_tumour_stage.set_stage(folder, terms, say)
        done = [
            demo_tumour_stage.run_study(folder, hospitals, study, limit_s=LIMIT_S, say=say)
            for study in demo_tumour_stage.studies(terms)
        ]
        compared = None
        if is_compared:
            say("Comparing with training alone and with pooled data …")
            compared = demo_tumour_result.compare(folder, hospitals, done, terms.pictures)
        result = demo_tumour_result.result_json(
            terms, hospitals, done, compared, wall_s=time.monotonic() - started_s
        )
        demo_tumour_result.tell(done, compared, result)
        if json is not None:
            write_json(json, result)
