"""Options that several commands share."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

if TYPE_CHECKING:
    from opengte.contracts import TextEncoder

Command = TypeVar("Command", bound=Callable[..., Any])

json_option = click.option(
    "--json",
    "json_file",
    type=click.Path(path_type=Path, dir_okay=False),
    default=None,
    help="Write the numbers to this file as well.",
)
backend_option = click.option(
    "--backend",
    type=click.Choice(["auto", "torch", "onnx", "http"]),
    default="auto",
    show_default=True,
    help="What runs the model.",
)


def write_numbers(json_file: Path | None, content: Any) -> None:
    """What ``--json`` asks for; nothing without it."""
    from opengte.atomic import write_json

    if json_file is not None:
        write_json(json_file, content)


def max_tokens_option(command: Command) -> Command:
    """``--max-tokens``: inputs shorter than the model's own limit."""
    return click.option(
        "--max-tokens",
        type=click.IntRange(min=2),
        default=None,
        help="Longest input; the model's own limit by default.",
    )(command)


def open_model(model: str, *, backend: Any, max_tokens: int | None) -> TextEncoder:
    """The encoder behind MODEL: a folder, an endpoint or a hub id."""
    from opengte.loading import load
    from opengte.pipeline.execute import prepare_process

    prepare_process()
    return load(model, backend=backend, max_tokens=max_tokens)
