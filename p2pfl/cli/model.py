"""`p2pfl model`: list, evaluate, predict, export."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from p2pfl.cli.context import (
    JsonOption,
    opened_home,
    say,
    say_fields,
    say_json,
    say_table,
    say_wrapped,
    short,
)
from p2pfl.cli.model_show import show

if TYPE_CHECKING:
    from p2pfl.runtime.commands.models import Measured, Scores

FEW_PATIENTS = 100

app = typer.Typer(
    rich_markup_mode=None,
    no_args_is_help=True,
    help="Released models: list, try on own patients, predict, export.",
)

_StudyArgument = Annotated[str, typer.Argument(help="Beginning of the study's id, 6 digits +.")]


@app.command("list")
def list_(context: typer.Context, json: JsonOption = False) -> None:
    """Every model that a study released here."""
    from p2pfl.cli.progress import paged
    from p2pfl.runtime.commands import models

    home = opened_home(context)
    found = models.model_list(home)
    if json:
        say_json(found)
        return
    if not found:
        say("No study has released a model here yet: see `p2pfl study list`.")
        return
    with paged(len(found) + 4):
        say_table(
            ("study", "name", "rounds", "SHA-256", "distance", "entry"),
            [
                (
                    short(model.study),
                    model.name,
                    str(model.round + 1),
                    short(model.hash),
                    _distance(model.distance),
                    str(model.seq),
                )
                for model in found
            ],
        )
        say()
        say(f"Files: {home.models}/<study>/model.safetensors")
        say("To hand one on: p2pfl model export STUDY --out DIR")


app.command()(show)


@app.command()
def evaluate(
    context: typer.Context,
    study: _StudyArgument,
    data: Annotated[
        str,
        typer.Option(
            help="A registered dataset [default: the study's own hold-out].", show_default=False
        ),
    ] = "",
    file: Annotated[
        Path | None, typer.Option(help="A CSV file with the study's columns and target.")
    ] = None,
    patient_column: Annotated[
        str, typer.Option(help="Column of --file that tells patients apart.")
    ] = "",
    json: JsonOption = False,
) -> None:
    """How good a released model is on patients of this site. The answer stays here."""
    from p2pfl.cli.progress import working
    from p2pfl.runtime.commands import models

    home = opened_home(context)
    where = file.absolute() if file is not None else None
    request = models.ModelEvaluate(study, data, where, patient_column)
    with working("Evaluating the model …"):
        found = models.model_evaluate(home, request)
    if json:
        say_json(found)
        return
    say(f"{found.name} ({short(found.study)}, model {short(found.hash)})")
    scores = found.scores
    fields = _measures(scores) if isinstance(scores, models.Measured) else _score_fields(scores)
    say_fields([("patients", found.patients), *fields])


_FOR_THIS_SITE = "Computed from patients: for people at this site, not for other sites."


def _measures(scores: Measured) -> list[tuple[str, str]]:
    measures = {scores.headline: scores.score}
    measures |= {} if scores.auc is None else {"AUC": scores.auc}
    return [
        ("n", str(scores.n)),
        *[(name, f"{value:.3f}") for name, value in (measures | scores.measures).items()],
        ("loss", f"{scores.loss:.3f}"),
        *_few(scores.n),
        *[("note", note) for note in scores.notes],
        ("note", _FOR_THIS_SITE),
    ]


def _few(patients: int) -> list[tuple[str, str]]:
    if patients >= FEW_PATIENTS:
        return []
    return [("note", "Few patients: another hold-out would give quite different numbers.")]


def _score_fields(scores: Scores) -> list[tuple[str, str]]:
    share = scores.positives / scores.n
    return [
        ("n", f"{scores.n}, {scores.positives} of them positive"),
        ("AUC", "- (only one outcome occurs)" if scores.auc is None else f"{scores.auc:.3f}"),
        ("accuracy", f"{scores.accuracy:.3f} (probability above 0.5 counts as positive)"),
        ("Brier score", f"{scores.brier:.3f} (0 is best; always saying 0.5 gives 0.25)"),
        (
            "calibration",
            f"predicts {scores.mean_predicted:.1%} positive on average, {share:.1%} are",
        ),
        *_few(scores.n),
        *[("note", note) for note in scores.notes],
        ("note", _FOR_THIS_SITE),
    ]


@app.command()
def predict(
    context: typer.Context,
    study: _StudyArgument,
    given: Annotated[
        Path,
        typer.Argument(
            metavar="FILE|FOLDER",
            help="A CSV file with the study's columns; of images, a folder of patients or a "
            "dataset.json.",
        ),
    ],
    out: Annotated[
        Path, typer.Option("--out", "-o", help="The CSV file to write; of images, a new folder.")
    ],
    id_column: Annotated[
        str,
        typer.Option(
            "--id", help="Column to copy [default: rows are numbered].", show_default=False
        ),
    ] = "",
    mapping: Annotated[
        Path | None,
        typer.Option(
            help="Of images: mapping.toml [default: of the dataset trained on].",
            show_default=False,
        ),
    ] = None,
    table: Annotated[
        Path | None, typer.Option(help="Of images: the table, if the model uses columns, too.")
    ] = None,
    patient_column: Annotated[
        str, typer.Option(help="Column of --table that tells patients apart.")
    ] = "",
    format_: Annotated[
        str,
        typer.Option("--format", help="Of regions: auto, nifti, dicom-seg; auto is as the scan."),
    ] = "auto",
    json: JsonOption = False,
) -> None:
    """A probability for each row of a table; or what a model marks in scans, and how large it is.

    Nothing else of a table is copied. Scans are given in folders as `p2pfl data add` takes them,
    without masks; what is marked comes as NIfTI or DICOM-SEG with a picture of each patient.
    """
    from p2pfl.cli.data_images import is_images
    from p2pfl.cli.model_images import predict_images
    from p2pfl.cli.progress import working
    from p2pfl.runtime.commands import model_images, models

    home = opened_home(context)
    if is_images(given):
        asked = model_images.ImagesPredict(
            study,
            given.absolute(),
            out.absolute(),
            None if mapping is None else mapping.absolute(),
            None if table is None else table.absolute(),
            patient_column,
            format_,
        )
        predict_images(home, asked, json=json)
        return
    request = models.ModelPredict(study, given.absolute(), out.absolute(), id_column)
    with working("Predicting …"):
        done = models.model_predict(home, request)
    if json:
        say_json(done)
        return
    say(f"{out} holds the probability of {done.target} for {done.made.rows} rows.")
    say(f"Model {short(done.hash)} of {done.name}; readable by you only. Not a medical device.")
    for note in done.made.notes:
        say(f"Note: {note}.")


@app.command()
def export(
    context: typer.Context,
    study: _StudyArgument,
    out: Annotated[Path, typer.Option("--out", "-o", help="A new directory.")],
    licence: Annotated[
        str, typer.Option("--licence", "--license", help="SPDX id for the model card.")
    ] = "other",
    is_onnx: Annotated[
        bool, typer.Option("--onnx", help="Add model.onnx, compared with the model first.")
    ] = False,
    json: JsonOption = False,
) -> None:
    """Named tensors, a model card and the proof of where the model comes from."""
    from p2pfl.cli.progress import working
    from p2pfl.runtime.commands import model_export

    home = opened_home(context)
    with working("Exporting the model …"):
        done = model_export.model_export(
            home, model_export.ModelExport(study, out.absolute(), licence, is_onnx)
        )
    if json:
        say_json(done)
        return
    say_wrapped(f"{out} holds {', '.join(done.files)}.")
    facts = done.facts
    say_fields(
        [
            ("study", f"{facts.name} ({facts.study.hex()})"),
            ("SHA-256", f"{facts.tensors_sha256.hex()} (model.safetensors)"),
            ("ledger", f"entry {facts.seq}, leaf {facts.leaf.hex()}"),
            ("privacy", _privacy(facts.epsilon, facts.delta)),
            ("not in it", "scores and patient counts: nobody has paid ε for them"),
        ]
    )


def _privacy(epsilon: float, delta: str) -> str:
    return f"ε = {epsilon:.3f} at δ = {delta}" if epsilon else "NONE: trained without protection"


def _distance(recorded: str) -> str:
    from p2pfl.core.drafts import DISTANCE_MAX

    value = float(recorded)
    return "-" if value >= DISTANCE_MAX else f"{value:.1e}"
