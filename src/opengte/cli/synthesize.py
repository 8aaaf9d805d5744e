"""``gte synthesize``: documents to (query, positive) pairs, by any chat endpoint."""

from __future__ import annotations

from pathlib import Path

import click


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
@click.option("--max-documents", default=0, type=click.IntRange(min=0), help="0 = all.")
@click.option("--max-total-tokens", default=0, type=click.IntRange(min=0), help="0 = no limit.")
@click.option("--requests-per-minute", default=0, type=click.IntRange(min=0), help="0 = no limit.")
@click.option("--workers", default=4, show_default=True, type=click.IntRange(min=1))
@click.option("--seed", default=0, show_default=True, type=click.IntRange(min=0))
@click.option("--retry-failed", is_flag=True, help="Ask once more where no answer was usable.")
@click.option("--quiet", is_flag=True, help="Print no progress.")
def command(
    documents: Path,
    url: str,
    llm_model: str,
    api_key_env: str,
    out: Path,
    method: str,
    max_documents: int,
    max_total_tokens: int,
    requests_per_minute: int,
    workers: int,
    seed: int,
    retry_failed: bool,
    quiet: bool,
) -> None:
    """Make training pairs from DOCUMENTS; a run that was stopped goes on."""
    from opengte.data.readers.documents import read_documents
    from opengte.http_client import HttpConfig
    from opengte.llm import ChatClient, ChatConfig
    from opengte.pipeline.console import Console
    from opengte.synthesis.config import (
        BrainstormConfig,
        CraftedConfig,
        GplConfig,
        PersonaConfig,
        SynthesisConfig,
    )
    from opengte.synthesis.run import synthesize

    methods = {
        "gpl": GplConfig,
        "persona": PersonaConfig,
        "brainstorm": BrainstormConfig,
        "crafted": CraftedConfig,
    }
    http = HttpConfig(url=url, api_key_env=api_key_env, requests_per_minute=requests_per_minute)
    chat = ChatClient(ChatConfig(http=http, model=llm_model, max_total_tokens=max_total_tokens))
    config = SynthesisConfig(
        method=methods[method](), max_documents=max_documents, num_workers=workers, seed=seed
    )
    result = synthesize(
        list(read_documents(documents)),
        chat,
        config,
        folder=out,
        retry_failed=retry_failed,
        progress=Console(quiet=quiet).progress("asking", unit="documents"),
    )
    for line in result.report.lines():
        click.echo(line)
    click.echo(f"{out / 'pairs.jsonl'}")
