"""`p2pfl data`: preview, add, list, show, revoke."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from p2pfl.cli import data_images, data_tables
from p2pfl.cli.context import (
    JsonOption,
    opened_home,
    perform,
    say,
    say_fields,
    say_json,
    say_table,
)

if TYPE_CHECKING:
    from p2pfl.runtime.commands.datasets import DataAdd, DatasetSeen
    from p2pfl.runtime.home import Home

app = typer.Typer(
    rich_markup_mode=None,
    no_args_is_help=True,
    help="Register and withdraw datasets; data never leaves the site.",
)

_NameArgument = Annotated[str, typer.Argument(help="A name from `p2pfl data list`.")]


_FileArgument = Annotated[
    Path,
    typer.Argument(help="A CSV or Parquet file, a folder of images, or a Decathlon dataset.json."),
]
_PatientOption = Annotated[
    str, typer.Option(help="Column that tells patients apart; without it one row is one.")
]
_SchemaOption = Annotated[
    Path | None,
    typer.Option("--schema", "--study", help="TOML file with the [data] section to check against."),
]
_MappingOption = Annotated[
    Path | None, typer.Option(help="Images: TOML file, the study's names = this site's own.")
]
_TableOption = Annotated[
    Path | None,
    typer.Option(help="Images: table of demographics [default: participants.tsv or .csv]."),
]


@app.command()
def preview(
    context: typer.Context,
    file: _FileArgument,
    schema: _SchemaOption = None,
    mapping: _MappingOption = None,
    table: _TableOption = None,
    patient_column: _PatientOption = "",
    contact: Annotated[
        Path | None, typer.Option(help="Where to put a picture of a few patients (PNG).")
    ] = None,
    json: JsonOption = False,
) -> None:
    """Look at data without registering it: counts, labels, what does not fit or is suspicious."""
    if not data_images.is_images(file):
        data_tables.preview_table(file, schema, patient_column, as_json=json)
        return
    look = data_images.look_of(file, schema, mapping, table, patient_column)
    with data_images.looked_at(opened_home(context), look) as (scan, seen):
        kept = data_images.keep_contact(scan, contact)
    data_images.tell_preview(seen, kept, as_json=json)


@app.command()
def add(
    context: typer.Context,
    file: _FileArgument,
    name: Annotated[str, typer.Option(help="Short name to use at this site.")],
    patient_column: _PatientOption = "",
    schema: _SchemaOption = None,
    mapping: _MappingOption = None,
    table: _TableOption = None,
    epsilon_cap: Annotated[
        float, typer.Option(help="Largest ε over all studies [default: the policy's].")
    ] = 0.0,
    delta: Annotated[str, typer.Option(help="δ of the dataset [default: the policy's].")] = "",
    legal_basis: Annotated[
        str, typer.Option(help="Code of the legal basis, like gdpr-9-2-j.")
    ] = "not-stated",
    dpia: Annotated[
        str, typer.Option(help="Code of the impact assessment, like dpia-2026-04.")
    ] = "not-stated",
    preview: Annotated[
        bool, typer.Option("--preview", help="Tables: show first what was found [images: always].")
    ] = False,
    json: JsonOption = False,
) -> None:
    """Check data and register it. It stays where it is; the ledger gets public facts only."""
    from p2pfl.runtime.commands import datasets

    request = datasets.DataAdd(
        file=file.absolute(),
        name=name,
        patient_column=patient_column,
        schema=schema.absolute() if schema else None,
        epsilon_cap=epsilon_cap,
        delta=delta,
        legal_basis=legal_basis,
        dpia=dpia,
    )
    home = opened_home(context)
    if not data_images.is_images(file):
        if preview and not json:
            data_tables.preview_table(file, schema, patient_column, as_json=False)
        _tell(_registered(home, request), as_json=json)
        return
    look = data_images.look_of(file, schema, mapping, table, patient_column)
    with data_images.looked_at(home, look) as (scan, seen):
        if not json:
            data_images.tell_preview(seen, home.dataset(name) / "contact.png", as_json=False)
        registered = _registered(home, replace(request, scan=scan))
    _tell(registered, as_json=json)


def _registered(home: Home, request: DataAdd) -> DatasetSeen:
    from p2pfl.cli.progress import working
    from p2pfl.runtime.commands import catalogue

    with working("Reading and registering the data …"):
        return perform(home, catalogue.DATA_ADD, request)


@app.command("list")
def list_(context: typer.Context, json: JsonOption = False) -> None:
    """All datasets of this site."""
    from p2pfl.cli.progress import paged
    from p2pfl.runtime.commands import datasets

    found = datasets.data_list(opened_home(context))
    if json:
        say_json(found)
        return
    if not found:
        say("No datasets yet: register one with `p2pfl data add`.")
        return
    with paged(len(found) + 1):
        say_table(
            ("name", "patients", "public", "ε spent", "ε cap", "state"),
            [
                (
                    seen.name,
                    str(seen.patients),
                    str(seen.patients_bucket),
                    f"{seen.epsilon_spent:.3f}",
                    f"{seen.epsilon_cap:g}",
                    seen.state,
                )
                for seen in found
            ],
        )


@app.command()
def show(context: typer.Context, name: _NameArgument, json: JsonOption = False) -> None:
    """One dataset."""
    from p2pfl.runtime.commands import datasets

    _tell(datasets.data_show(opened_home(context), name), as_json=json)


@app.command()
def revoke(
    context: typer.Context,
    name: _NameArgument,
    reason: Annotated[str, typer.Option(help="A code without spaces.")] = "withdrawn",
    json: JsonOption = False,
) -> None:
    """Withdraw a dataset for good: training on it stops at once."""
    from p2pfl.runtime.commands import catalogue, datasets

    seen = perform(opened_home(context), catalogue.DATA_REVOKE, datasets.DataRevoke(name, reason))
    _tell(seen, as_json=json)
    if not json:
        say("Withdrawn for good: nothing trains on it any more, studies that did have")
        say("stopped here, and what was spent on its patients stays spent.")


@app.command("accept-spending")
def accept_spending(
    context: typer.Context,
    name: _NameArgument,
    epsilon: Annotated[float, typer.Option(help="ε that may have been spent off the record.")],
    basis: Annotated[str, typer.Option(help="Where the number is from: a code without spaces.")],
    yes: Annotated[
        bool, typer.Option("--yes", help="Decide; without it you are told what.")
    ] = False,
    json: JsonOption = False,
) -> None:
    """Decide what was spent on a dataset where the ledger cannot say. It stays on record.

    Until then its whole ε cap counts as spent. What is on record always counts as well."""
    from p2pfl.runtime.commands import catalogue, spending

    done = perform(
        opened_home(context),
        catalogue.DATA_ACCEPT_SPENDING,
        spending.AcceptSpending(name, epsilon, basis, yes),
    )
    if json:
        say_json(done)
        return
    say(f"Entry {done.seq}: {done.name} has spent ε {done.total:.3f} of {done.cap:g}:")
    say(f"{done.known:.3f} on record, {done.accepted:.3f} by your decision.")


def _tell(seen: DatasetSeen, *, as_json: bool) -> None:
    if as_json:
        say_json(seen)
        return
    labels = "" if seen.positives is None else f", {seen.positives} rows positive"
    say_fields(
        [
            ("dataset", f"{seen.name} ({seen.state})"),
            ("id", seen.ds.hex()),
            ("file" if seen.kind == "tabular" else "folder", str(seen.file)),
            ("patients", f"{seen.patients} (public: {seen.patients_bucket or '-'})"),
            ("rows" if seen.kind == "tabular" else "volumes", f"{seen.rows}{labels}"),
            (
                "privacy",
                f"ε {seen.epsilon_spent:.3f} spent, {seen.epsilon_reserved:.3f} reserved, "
                f"cap {seen.epsilon_cap:g}, δ = {seen.delta or '-'}",
            ),
            *[("note", note) for note in seen.notes],
        ]
    )
