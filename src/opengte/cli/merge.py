"""``gte merge``: several models of one architecture to one."""

from __future__ import annotations

from pathlib import Path

import click


@click.command("merge")
@click.argument("models", nargs=-1, required=True)
@click.option(
    "--weight",
    "weights",
    multiple=True,
    type=float,
    help="One a model, in their order; equal weights by default.",
)
@click.option("--out", required=True, type=click.Path(path_type=Path), help="The new folder.")
def command(models: tuple[str, ...], weights: tuple[float, ...], out: Path) -> None:
    """The weighted mean of the weights of MODELS (two or more)."""
    from opengte.errors import ConfigError
    from opengte.evaluation.training_manifest import TrainingManifest
    from opengte.loading import find_model
    from opengte.models.merging import merge_linear
    from opengte.models.weights import load_encoder, save_encoder

    if len(models) < 2:
        raise ConfigError("merging needs two models or more")
    if weights and len(weights) != len(models):
        raise ConfigError(f"{len(models)} models need as many --weight, got {len(weights)}")
    shares = weights or (1.0,) * len(models)
    if not sum(shares) > 0:
        raise ConfigError("the weights must sum to more than 0")
    encoders = [load_encoder(find_model(name)) for name in models]
    save_encoder(merge_linear(encoders, [share / sum(shares) for share in shares]), out)
    learned = [TrainingManifest.of_model(find_model(name), name=name) for name in models]
    TrainingManifest.union(learned).save_if_known(out)
    click.echo(
        f"{out}: "
        + " + ".join(f"{s / sum(shares):.3g} {m}" for s, m in zip(shares, models, strict=True))
    )
