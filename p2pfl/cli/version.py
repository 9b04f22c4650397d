"""`p2pfl version`."""

from __future__ import annotations

import typer

from p2pfl.cli.context import JsonOption, say_fields, say_json

app = typer.Typer(rich_markup_mode=None)

_LIBRARIES = (
    "p2pfl-node",
    "libp2p",
    "torch",
    "opacus",
    "monai",
    "dp-accounting",
    "numpy",
    "pynacl",
)


@app.command()
def version(json: JsonOption = False) -> None:
    """Versions of this program and what it stands on."""
    import platform
    from importlib.metadata import PackageNotFoundError
    from importlib.metadata import version as installed

    found = {"python": platform.python_version()}
    for library in _LIBRARIES:
        try:
            found[library] = installed(library)
        except PackageNotFoundError:
            found[library] = "not installed"
    if json:
        say_json(found)
    else:
        say_fields(list(found.items()))
