"""A recipe and a folder come in -> every stage has run once, and the folder says so.

A stage's fingerprint covers its settings, the fingerprints of what it reads and the version of
its code. While it is unchanged the stage is not run again. A stage that was killed finds its own
``work`` folder as it left it and goes on from there.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from opengte.atomic import recover_folder, write_json, write_text
from opengte.contracts import TextEncoder
from opengte.errors import ConfigError
from opengte.pipeline.backbone import prepare_backbone
from opengte.pipeline.console import Console, format_seconds
from opengte.pipeline.environment import describe_environment, peak_rss_mb
from opengte.pipeline.memory import trim
from opengte.pipeline.recipe import BASE, Recipe
from opengte.pipeline.stage_configs import (
    BackboneConfig,
    StageConfig,
    split_snapshot,
    stage_references,
)
from opengte.search.cached_encoder import CachedEncoder


@dataclass(frozen=True)
class StageResult:
    """A finished stage.

    Attributes:
        name, kind: which stage it was.
        output: what it made.
        fingerprint: of everything it read and did; what later stages depend on.
        facts: what it did, as plain values.
        seconds, peak_rss_mb: what it cost.
    """

    name: str
    kind: str
    output: Path
    fingerprint: str
    facts: Mapping[str, Any]
    seconds: float
    peak_rss_mb: float


@dataclass(frozen=True)
class StageContext:
    """What a stage may use.

    Attributes:
        name: the stage's own.
        run_folder: the whole run's.
        work: survives a kill as long as the fingerprint stays; what resumes lives here.
        output: a folder to be made with ``atomic_folder``.
        seed: this stage's own, derived from the recipe's.
        recipe_seed: the recipe's.
        backbone: the recipe's, with the folder it was found in.
        base_folder: that folder.
        results: the stages before this one.
        stages: their settings, and those of the stages to come.
        console: for progress.
        load_encoder: opens a model folder with a longest input.
        find_model: the name of a model from elsewhere -> its folder.
    """

    name: str
    run_folder: Path
    work: Path
    output: Path
    seed: int
    backbone: BackboneConfig
    base_folder: Path
    results: Mapping[str, StageResult]
    console: Console
    load_encoder: Callable[[Path, int], TextEncoder]
    stages: Mapping[str, StageConfig] = field(default_factory=dict)
    recipe_seed: int = 0
    find_model: Callable[[str], Path] = Path

    def model_folder(self, reference: str) -> Path:
        """The folder of the model that a stage refers to."""
        if reference == BASE:
            return self.base_folder
        name, share = split_snapshot(reference)
        output = self.results[name].output
        return output if share is None else snapshot_folder(self.run_folder, name, share)

    def of_stage(self, name: str) -> StageContext:
        """The context that an earlier stage was run with, to go back to what it left."""
        result = self.results[name]
        return replace(
            self,
            name=name,
            work=self.run_folder / "stages" / name,
            output=result.output,
            seed=_stage_seed(self.recipe_seed, name),
        )

    def encoder(self, reference: str) -> TextEncoder:
        """The model that a stage refers to, embedding each text once in the whole run."""
        folder = self.model_folder(reference)
        encoder = self.load_encoder(folder, self.backbone.max_tokens)
        return CachedEncoder(encoder, self.run_folder / "cache")


def snapshot_folder(run_folder: Path, stage: str, share: float) -> Path:
    """Where a stage keeps the encoder of a moment of its run."""
    return run_folder / "stages" / stage / "snapshots" / f"{share:g}"


StageFunction = Callable[[Any, StageContext], Mapping[str, Any]]


@dataclass(frozen=True)
class StageKind:
    """How one kind of stage is run.

    Attributes:
        run: does it, and returns its facts.
        version: raised when the same settings would now give another result.
        external_inputs: plain values that change when something outside the run changes.
    """

    run: StageFunction
    version: int = 1
    external_inputs: Callable[[Any], Any] = field(default=lambda config: None)


def run_recipe(
    recipe: Recipe,
    folder: Path,
    *,
    kinds: Mapping[str, StageKind],
    find_model: Callable[[str], Path],
    load_encoder: Callable[[Path, int], TextEncoder],
    fingerprint_model: Callable[[Path], str],
    console: Console,
    until: str | None = None,
) -> dict[str, StageResult]:
    """Run the stages of ``recipe`` that are not done yet.

    Args:
        recipe: what to run.
        folder: the run folder; made if absent, continued if it holds a run.
        kinds: how each kind of stage is run.
        find_model: name of a model -> its folder.
        load_encoder: folder and longest input -> encoder.
        fingerprint_model: folder -> hash of weights and tokenizer.
        console: for progress.
        until: stop after this stage.

    Returns:
        The result of every stage, by name.

    Raises:
        UserError: from a stage; finished stages stay, the folder can be continued.
    """
    _claim(folder)
    write_text(folder / "recipe.resolved.yaml", recipe.to_yaml())
    with _alone(folder):
        return _run_stages(
            recipe, folder, kinds, find_model, load_encoder, fingerprint_model, console, until
        )


def _run_stages(
    recipe: Recipe,
    folder: Path,
    kinds: Mapping[str, StageKind],
    find_model: Callable[[str], Path],
    load_encoder: Callable[[Path, int], TextEncoder],
    fingerprint_model: Callable[[Path], str],
    console: Console,
    until: str | None,
) -> dict[str, StageResult]:
    base_folder = prepare_backbone(
        recipe.backbone, folder / "backbone", seed=recipe.seed, find_model=find_model
    )
    settings = recipe.backbone.model_dump_json()
    base_fingerprint = f"{fingerprint_model(base_folder)} {settings}"
    write_json(folder / "environment.json", {**describe_environment(), "seed": recipe.seed})
    results: dict[str, StageResult] = {}
    for number, (name, config) in enumerate(recipe.stages.items(), start=1):
        kind = kinds[config.kind]
        fingerprint = _fingerprint(recipe, name, config, kind, results, base_fingerprint)
        work = folder / "stages" / name
        output = folder / (config.output or f"stages/{name}/output")
        label = f"[{number}/{len(recipe.stages)}] {name}"
        done = _finished(work, output, fingerprint)
        if done is None:
            console.line(f"{label}: {config.kind}")
            context = StageContext(
                name=name,
                run_folder=folder,
                work=_work_folder(work, fingerprint),
                output=output,
                seed=_stage_seed(recipe.seed, name),
                recipe_seed=recipe.seed,
                backbone=recipe.backbone,
                base_folder=base_folder,
                results=results,
                stages=recipe.stages,
                console=console,
                load_encoder=load_encoder,
                find_model=find_model,
            )
            done = _run_stage(kind, config, context, fingerprint)
            console.line(f"{label}: done in {format_seconds(done.seconds)}")
        else:
            console.line(f"{label}: unchanged, kept")
        results[name] = done
        if name == until:
            break
    return results


def _claim(folder: Path) -> None:
    """Refuse to write into a folder that holds something other than a run."""
    markers = [folder / "recipe.resolved.yaml", folder / "calibration.json"]
    if folder.exists() and not folder.is_dir():
        raise ConfigError("is a file; --out needs a folder", path=folder)
    if folder.is_dir() and any(folder.iterdir()) and not any(m.exists() for m in markers):
        raise ConfigError(
            "holds files that no run of ours made; choose an empty or new folder with --out",
            path=folder,
        )


@contextlib.contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Hold the run folder: a second process would tear away what the first one writes.

    The lock is the operating system's, so that it falls with the process that held it.
    """
    with open(folder / ".lock", "a+b") as stream:
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ConfigError(
                "another process is at work in this run folder; wait for it, or stop it first",
                path=folder,
            ) from None
        yield


def _fingerprint(
    recipe: Recipe,
    name: str,
    config: BaseModel,
    kind: StageKind,
    results: Mapping[str, StageResult],
    base_fingerprint: str,
) -> str:
    reads = {
        target: base_fingerprint
        if target == BASE
        else results[split_snapshot(target)[0]].fingerprint
        for _, target, _ in stage_references(config)
    }
    facts = {
        "name": name,
        "settings": config.model_dump(mode="json"),
        "reads": reads,
        "version": kind.version,
        "seed": recipe.seed,
        "max_tokens": recipe.backbone.max_tokens,
        "external": kind.external_inputs(config),
    }
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()


def _work_folder(work: Path, fingerprint: str) -> Path:
    """The stage's own folder; emptied when it was begun with other settings or inputs."""
    mark = work / "fingerprint"
    if work.exists() and (not mark.exists() or mark.read_text() != fingerprint):
        shutil.rmtree(work)
    if not mark.exists():
        write_text(mark, fingerprint)
    return work


def _run_stage(
    kind: StageKind, config: Any, context: StageContext, fingerprint: str
) -> StageResult:
    started = time.monotonic()
    facts = dict(kind.run(config, context))
    trim()
    result = StageResult(
        name=context.name,
        kind=config.kind,
        output=context.output,
        fingerprint=fingerprint,
        facts=facts,
        seconds=round(time.monotonic() - started, 2),
        peak_rss_mb=peak_rss_mb(),
    )
    write_json(
        context.work / "stage.json",
        {
            "name": result.name,
            "kind": result.kind,
            "fingerprint": fingerprint,
            "seconds": result.seconds,
            "peak_rss_mb": result.peak_rss_mb,
            "files": _file_hashes(context.output),
            "facts": facts,
        },
    )
    # Only now: a stage that is killed before its record stands goes on from them.
    shutil.rmtree(context.work / "training" / "checkpoints", ignore_errors=True)
    return result


def _finished(work: Path, output: Path, fingerprint: str) -> StageResult | None:
    """The stage's result if it was done with this fingerprint and its files are untouched."""
    try:
        record = json.loads((work / "stage.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    recover_folder(output)
    if record.get("fingerprint") != fingerprint or record.get("files") != _file_hashes(output):
        return None
    return StageResult(
        name=record["name"],
        kind=record["kind"],
        output=output,
        fingerprint=fingerprint,
        facts=record["facts"],
        seconds=record["seconds"],
        peak_rss_mb=record["peak_rss_mb"],
    )


def _file_hashes(folder: Path) -> dict[str, str]:
    hashes = {}
    for file in sorted(folder.rglob("*")) if folder.is_dir() else ():
        if file.is_file():
            with open(file, "rb") as stream:
                digest = hashlib.file_digest(stream, "sha256").hexdigest()
            hashes[file.relative_to(folder).as_posix()] = digest
    return hashes


def _stage_seed(seed: int, name: str) -> int:
    return int.from_bytes(hashlib.sha256(f"{seed}/{name}".encode()).digest()[:4], "big") >> 1
