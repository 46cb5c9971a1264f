"""`gifthorse train`."""

import json
from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape

from gifthorse.cli.console import Json, Seed, Threads, out, progress_bar, use_threads


def train(
    data: Annotated[str, typer.Argument(help="Training data that nobody vouches for.")],
    place: Annotated[Path, typer.Argument(help="Directory for the model; must be new or empty.")],
    method: Annotated[
        str, typer.Option("--method", help="abl, adversarial or dbd, with options: abl:gamma=0.5.")
    ] = "abl",
    test: Annotated[
        str | None,
        typer.Option("--test", help="Data to measure clean accuracy on; used for nothing else."),
    ] = None,
    epochs: Annotated[int, typer.Option("--epochs", min=1, help="Passes over the data.")] = 8,
    width: Annotated[
        int, typer.Option("--width", min=4, help="Channels of the network's first stage.")
    ] = 32,
    seed: Seed = 0,
    threads: Threads = None,
    as_json: Json = False,
) -> None:
    """Train a small image classifier in a way that resists backdoors in its training data.

    Writes the model, and distrusted.json beside it: the samples that the method isolated (abl), or
    whose labels it did not use (dbd). When which method helps: docs/how-to/train.md.

    Examples:
      gifthorse train npz:planted/data.npz ./model --method abl

      gifthorse train folder:./photos ./model --method adversarial:kind=patch,side=5

      gifthorse train signs ./model --method dbd:self_epochs=40 --epochs 15 --test signs
    """
    from gifthorse.bench.plant import check_place
    from gifthorse.data.sources import load
    from gifthorse.metrics.rates import agreement
    from gifthorse.models.passes import predict
    from gifthorse.models.saving import save_classifier
    from gifthorse.models.training import TrainingPlan
    from gifthorse.training.secure import train_securely

    use_threads(threads)
    check_place(place)
    suspect = load(data, split="train")
    held = None if test is None else load(test, split="test")
    with progress_bar() as progress:
        made = train_securely(
            suspect,
            method=method,
            training=TrainingPlan(epochs=epochs),
            width=width,
            seed=seed,
            progress=progress,
        )
    save_classifier(made.model, place)
    listed = made.distrusted.tolist()
    (place / "distrusted.json").write_text(json.dumps(listed) + "\n", encoding="utf-8")
    accuracy = None if held is None else agreement(predict(made.model, held), held.labels).value
    if as_json:
        found = {"model": str(place), "distrusted": listed, "clean_accuracy": accuracy}
        typer.echo(json.dumps(found, indent=2))
        return
    out.print(f"model: {escape(str(place))}", soft_wrap=True)
    out.print(f"distrusted: {len(listed)} of {len(suspect)} samples (distrusted.json)")
    if accuracy is not None:
        out.print(f"clean accuracy: {100 * accuracy:.1f} %")
