"""`p2pfl bundle`: add, list, show, remove."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from p2pfl.cli import study_bundle
from p2pfl.cli.context import JsonOption, as_typed, opened_home, say, say_json, say_table, short

app = typer.Typer(
    rich_markup_mode=None,
    no_args_is_help=True,
    help="MONAI bundles installed at this site; none ever comes from another.",
)

_BundleArgument = Annotated[
    str, typer.Argument(help="A name, or the beginning of a digest, from `p2pfl bundle list`.")
]


@app.command()
def add(
    context: typer.Context,
    folder: Annotated[Path, typer.Argument(help="A bundle's folder, the one with configs/.")],
    name: Annotated[
        str, typer.Option(help="What to call it here [default: the folder's name].")
    ] = "",
    json: JsonOption = False,
) -> None:
    """Copy a bundle into the home and pin it by its digest. Nothing of it is run."""
    from p2pfl.cli.progress import working
    from p2pfl.runtime import bundles

    source = folder.absolute()
    with working("Reading and copying the bundle …"):
        added = bundles.add_bundle(opened_home(context), source, name or source.name.lower())
    if json:
        say_json(added)
        return
    bundle = added.bundle
    say(f"{bundle.name} is installed: {len(bundle.files)} files, digest")
    say(bundle.digest.hex())
    for path in added.left_out[:20]:
        say(f"left out: {path}")
    if added.left_out:
        say("Left out is what holds pickles or is made by Python: studies do not start from it.")
    say(f"Next: read it with `p2pfl bundle show {bundle.name}`.")


@app.command("list")
def list_(context: typer.Context, json: JsonOption = False) -> None:
    """Bundles of this site, every byte looked at."""
    from p2pfl.runtime import bundles

    found = bundles.bundles_of(opened_home(context))
    if json:
        say_json(found)
        return
    if not found:
        say("No bundle is installed. `p2pfl bundle add FOLDER` installs one.")
        return
    rows = [(one.name, short(one.digest), str(len(one.files))) for one in found]
    say_table(("name", "digest", "files"), rows)


@app.command()
def show(context: typer.Context, bundle: _BundleArgument, json: JsonOption = False) -> None:
    """What a bundle contains: what it calls, evaluates, imports."""
    from p2pfl.runtime import bundles
    from p2pfl.runtime.commands.bundles import bundle_alone

    home = opened_home(context)
    seen = bundle_alone(bundles.find_bundle(home, bundle))
    say_json(seen) if json else study_bundle.tell_bundle(seen)


@app.command()
def remove(context: typer.Context, bundle: _BundleArgument, json: JsonOption = False) -> None:
    """Take a bundle away. Studies that run it do not start here any more."""
    from p2pfl.runtime import bundles

    home = opened_home(context)
    found = bundles.find_bundle(home, bundle)
    bundles.remove_bundle(home, found)
    if json:
        say_json(found)
        return
    say(f"{found.name} ({short(found.digest)}) is removed from {as_typed(home.bundles)}.")
