"""``gte synthesize``: documents to (query, positive) pairs, by any chat endpoint."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from opengte.cli.options import json_option, open_model

if TYPE_CHECKING:
    from opengte.synthesis.config import MethodConfig


@click.command("synthesize")
@click.argument("documents", type=click.Path(path_type=Path))
@click.option("--llm", "url", required=True, metavar="URL", help="Base URL, e.g. http://host/v1.")
@click.option("--llm-model", required=True, help="The model's name there.")
@click.option("--api-key-env", default="", help="Environment variable that holds the key.")
@click.option("--out", required=True, type=click.Path(path_type=Path), help="A folder.")
@click.option(
    "--method",
    type=click.Choice(["gpl", "persona", "brainstorm", "crafted"]),
    default="gpl",
    show_default=True,
    help="GPL, Qwen3's personas, E5-mistral's brainstorm, Linq's crafted prompts.",
)
@click.option(
    "--queries",
    "queries_per_document",
    default=None,
    type=click.IntRange(min=1),
    help="Of each document, with gpl (3) and persona (1).",
)
@click.option(
    "--language",
    "languages",
    multiple=True,
    default=("English",),
    show_default=True,
    help="Of the queries; several are drawn from.",
)
@click.option("--max-documents", default=0, type=click.IntRange(min=0), help="0 = all.")
@click.option("--max-total-tokens", default=0, type=click.IntRange(min=0), help="0 = no limit.")
@click.option("--requests-per-minute", default=0, type=click.IntRange(min=0), help="0 = no limit.")
@click.option(
    "--max-cost",
    default=0.0,
    type=click.FloatRange(min=0),
    help="Stop when so much is spent; needs --prices. 0 = no limit.",
)
@click.option(
    "--prices",
    default=None,
    nargs=2,
    type=click.FloatRange(min=0),
    metavar="IN OUT",
    help="For a million tokens read and written.",
)
@click.option(
    "--min-cosine",
    default=None,
    type=click.FloatRange(-1, 1),
    help="Drop pairs whose query and positive are less alike (Qwen3: 0.7); needs --model.",
)
@click.option("--model", default=None, help="The encoder that --min-cosine asks.")
@click.option("--workers", default=4, show_default=True, type=click.IntRange(min=1))
@click.option("--seed", default=0, show_default=True, type=click.IntRange(min=0))
@click.option("--retry-failed", is_flag=True, help="Ask once more where no answer was usable.")
@json_option
@click.option("--quiet", is_flag=True, help="Print no progress.")
def command(
    documents: Path,
    url: str,
    llm_model: str,
    api_key_env: str,
    out: Path,
    method: str,
    queries_per_document: int | None,
    languages: tuple[str, ...],
    max_documents: int,
    max_total_tokens: int,
    requests_per_minute: int,
    max_cost: float,
    prices: tuple[float, float] | None,
    min_cosine: float | None,
    model: str | None,
    workers: int,
    seed: int,
    retry_failed: bool,
    json_file: Path | None,
    quiet: bool,
) -> None:
    """Make training pairs from DOCUMENTS; a run that was stopped goes on."""
    from opengte.atomic import write_json
    from opengte.data.readers.documents import read_documents
    from opengte.http_client import HttpConfig
    from opengte.llm import ChatClient, ChatConfig
    from opengte.pipeline.console import Console
    from opengte.synthesis.config import SynthesisConfig
    from opengte.synthesis.run import synthesize

    if min_cosine is not None and model is None:
        raise click.UsageError("--min-cosine needs --model, the encoder that it is measured with")
    input_price, output_price = prices or (0.0, 0.0)
    chat = ChatConfig(
        http=HttpConfig(url=url, api_key_env=api_key_env, requests_per_minute=requests_per_minute),
        model=llm_model,
        max_total_tokens=max_total_tokens,
        max_cost=max_cost,
        input_price=input_price,
        output_price=output_price,
    )
    config = SynthesisConfig(
        method=method_config(method, queries_per_document),
        languages=languages,
        max_documents=max_documents,
        num_workers=workers,
        seed=seed,
        min_cosine=min_cosine,
    )
    encoder = None
    if model is not None:
        encoder = open_model(model, backend="auto", max_tokens=None)
    result = synthesize(
        list(read_documents(documents)),
        ChatClient(chat),
        config,
        folder=out,
        encoder=encoder,
        retry_failed=retry_failed,
        progress=Console(quiet=quiet).progress("asking", unit="documents"),
    )
    for line in result.report.lines():
        click.echo(line)
    if json_file is not None:
        write_json(json_file, result.report.as_json())
    click.echo(f"{out / 'pairs.jsonl'}")


def method_config(name: str, queries_per_document: int | None) -> MethodConfig:
    """The settings behind a method's name."""
    from opengte.synthesis.config import (
        BrainstormConfig,
        CraftedConfig,
        GplConfig,
        PersonaConfig,
    )

    counted: dict[str, type[GplConfig] | type[PersonaConfig]] = {
        "gpl": GplConfig,
        "persona": PersonaConfig,
    }
    if queries_per_document is not None:
        if name not in counted:
            raise click.UsageError(f"--queries is for {' and '.join(counted)}, not for {name}")
        return counted[name](queries_per_document=queries_per_document)
    methods: dict[str, type[MethodConfig]] = {
        **counted,
        "brainstorm": BrainstormConfig,
        "crafted": CraftedConfig,
    }
    return methods[name]()
