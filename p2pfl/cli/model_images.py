"""What people are told of predictions on images."""

from __future__ import annotations

from typing import TYPE_CHECKING

import typer

from p2pfl.cli.context import say, say_json, say_wrapped, short

if TYPE_CHECKING:
    from p2pfl.runtime.commands.model_images import ImagesPredict
    from p2pfl.runtime.home import Home

FILES_LISTED = 6


def predict_images(home: Home, request: ImagesPredict, *, json: bool) -> None:
    """Predict with a bar on a terminal, and tell; ends with 1 where a patient was refused."""
    from p2pfl.cli.progress import counted
    from p2pfl.runtime.commands.model_images import images_predict

    with counted("Predicting patients") as progress:
        done = images_predict(home, request, progress)
    made = done.made
    if json:
        say_json(done)
    else:
        say_wrapped(f"{done.out} holds {done.target} of {made.patients} patients:")
        for name in made.files[:FILES_LISTED]:
            say(f"  {name}")
        if len(made.files) > FILES_LISTED:
            say(f"  … and {len(made.files) - FILES_LISTED} more")
        say_wrapped(
            f"Model {short(done.hash)} of {done.name}; readable by you only. Not a medical device."
        )
        for note in made.notes:
            say_wrapped(f"Note: {note}.")
        for refused in made.refused:
            say_wrapped(f"Not predicted: {refused.patient}: {refused.problem}")
    if made.refused:
        raise typer.Exit(1)
