"""``gte export``: a model in another format, checked against the original."""

from __future__ import annotations

from pathlib import Path

import click


@click.command("export")
@click.argument("model")
@click.option("--to", "target", type=click.Choice(["onnx"]), default="onnx", show_default=True)
@click.option("--out", required=True, type=click.Path(path_type=Path), help="The new folder.")
@click.option("--max-tokens", type=click.IntRange(min=2), default=None, help="Longest input.")
def command(model: str, target: str, out: Path, max_tokens: int | None) -> None:
    """Export MODEL, a folder or a name; nothing is left behind if the vectors differ."""
    from opengte.evaluation.training_manifest import TrainingManifest
    from opengte.export.onnx import export_onnx
    from opengte.loading import find_model
    from opengte.models.weights import load_encoder
    from opengte.pipeline.execute import prepare_process

    prepare_process()
    encoder = load_encoder(find_model(model), max_tokens=max_tokens, dtype="float32")
    parity = export_onnx(encoder, out)
    TrainingManifest.of_model(find_model(model), name=model).save_if_known(out)
    click.echo(
        f"{out}: {target}, largest difference {parity.max_abs_difference:.1e}, least cosine "
        f"{parity.min_cosine:.7f} on {parity.num_texts} texts"
    )
