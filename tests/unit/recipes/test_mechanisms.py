"""For each system: what distinguishes it, switched off, changes a computed value.

Settings come from the recipe itself, so that a recipe which loses its mechanism fails here.
What only a whole run shows stands in ``tests/integration/test_tiny_recipes.py``.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from opengte.data.mixture import Mixture
from opengte.data.mixture_config import mixing_shares
from opengte.data.sources import Source
from opengte.losses.config import (
    CircleConfig,
    ConanBalanceConfig,
    ImprovedContrastiveConfig,
    InfoNCEConfig,
    InstructorConfig,
    KLDistillationConfig,
    MarginMSEConfig,
    MatryoshkaConfig,
    Qwen3ContrastiveConfig,
    WeightedSumConfig,
    make_loss,
)
from opengte.losses.inputs import EmbeddedBatch
from opengte.mining.filters import keep_consistent
from opengte.mining.judging import judge_positives, random_pool
from opengte.mining.mine import mine_negatives
from opengte.models.encoder import Encoder
from opengte.models.merging import merge_linear, merge_slerp
from opengte.models.reranker import YesNoPrompt, YesNoReranker
from opengte.models.weights import load_encoder
from opengte.pipeline.backbone import prepare_backbone
from opengte.pipeline.recipe import load_recipe
from opengte.records import Pair
from opengte.runtime.hashed import HashEncoder
from opengte.text.tokenizer_training import TokenizerConfig, train_tokenizer

QUESTION, OTHER = "how do I open a file", "a function that opens files and reads them"


def stage_of(name: str, stage: str) -> Any:
    return load_recipe(name).stages[stage]


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a tokenizer of few words."""
    folder = tmp_path_factory.mktemp("tokenizer")
    texts = [QUESTION, OTHER, "Represent the question for retrieving code", "yes no"]
    train_tokenizer(texts * 4, TokenizerConfig(vocab_size=320)).save(folder)
    return folder


@pytest.fixture
def encoder_of(tmp_path: Path, tokenizer: Path) -> Any:
    """The small random encoder of a tiny recipe, with settings of its backbone changed."""

    def make(name: str, **changes: Any) -> Encoder:
        config = load_recipe(name).backbone
        shape = {**config.shape, "vocab_size": 384, "pad_token_id": 0}
        if not config.shape:
            shape |= {"model_type": "bert", "hidden_size": 32, "num_hidden_layers": 2}
            shape |= {"num_attention_heads": 4, "intermediate_size": 64}
            shape |= {"max_position_embeddings": 128}
        update = {"init": "random", "tokenizer": "small", "shape": shape, **changes}
        made = prepare_backbone(
            config.model_copy(update=update), tmp_path, seed=0, find_model=lambda _: tokenizer
        )
        return load_encoder(made)

    return make


def embedded(
    seed: int = 0, *, size: int = 6, dimensions: int = 16, shared: float = 4.0, **facts: Any
) -> EmbeddedBatch:
    """Embeddings that lie near each other, as at a low temperature; two hard negatives a query."""
    generator = torch.Generator().manual_seed(seed)

    def values(n: int) -> torch.Tensor:
        return shared + torch.randn(n, dimensions, generator=generator, dtype=torch.float64)

    return EmbeddedBatch(
        values(size),
        values(size),
        values(2 * size),
        torch.arange(size).repeat_interleave(2),
        **facts,
    )


def gradient(config: Any, batch: EmbeddedBatch) -> torch.Tensor:
    """Of the loss by the queries."""
    queries = batch.queries.clone().requires_grad_()
    make_loss(config)(replace(batch, queries=queries)).backward()
    assert queries.grad is not None
    return queries.grad


def value(config: Any, batch: EmbeddedBatch) -> float:
    return float(make_loss(config)(batch))


def states_differ(one: torch.Tensor, other: torch.Tensor) -> bool:
    return float((one - other).abs().max()) > 1e-4


@pytest.mark.parametrize("name", ["gte-small", "gte-base", "gte-large", "gte-roberta-base"])
def test_gte_every_block_of_the_joint_partition_counts(name: str) -> None:
    for stage in ("pretrain", "finetune"):
        loss = stage_of(name, stage).loss
        assert isinstance(loss, ImprovedContrastiveConfig)
        whole = value(loss, embedded())
        for block in ("query_query", "document_query", "document_document", "count_positive_twice"):
            assert value(replace(loss, **{block: False}), embedded()) < whole - 1e-9
        plain = InfoNCEConfig(temperature=loss.temperature)
        assert states_differ(gradient(loss, embedded()), gradient(plain, embedded()))


def test_gte_alpha_raises_small_sources() -> None:
    stage = stage_of("gte-base", "pretrain")
    sizes = [source.num_pairs for source in stage.sources.values()]
    shares = dict(zip(stage.sources, mixing_shares(sizes, alpha=stage.mixture.alpha), strict=True))
    by_size = dict(zip(stage.sources, mixing_shares(sizes, alpha=1.0), strict=True))
    assert shares["reddit-post-comment"] == pytest.approx(0.1329, abs=1e-3)
    assert by_size["reddit-post-comment"] == pytest.approx(0.2545, abs=1e-3)
    assert shares["wikihow"] > 10 * by_size["wikihow"]


def test_gte_sizes_differ_in_the_rates_of_table_3() -> None:
    names = ("gte-small", "gte-base", "gte-large")
    rates = [stage_of(name, "pretrain").training.learning_rate for name in names]
    assert rates == [3e-4, 2e-4, 5e-5]
    tuned = [stage_of(name, "finetune").training.learning_rate for name in names]
    assert tuned == pytest.approx([rate / 10 for rate in rates])


def test_gte_mse_pulls_pairs_together() -> None:
    loss = stage_of("gte-mse", "pretrain").loss
    assert isinstance(loss, WeightedSumConfig)
    off = replace(loss, weights=(1.0, 0.0))
    assert states_differ(gradient(loss, embedded()), gradient(off, embedded()))
    batch = embedded()
    unit = [torch.nn.functional.normalize(x, dim=1) for x in (batch.queries, batch.documents)]
    distance = float((unit[0] - unit[1]).square().sum(dim=1).mean())
    assert value(loss, batch) - value(off, batch) == pytest.approx(0.5 * distance)


def test_gte_nli_sees_both_sentences() -> None:
    from opengte.models.classifier import EmbeddingClassifier

    stage = stage_of("gte-nli", "entail")
    classifier = EmbeddingClassifier(8, stage.labels, inputs=stage.inputs)
    first, second, third = np.random.default_rng(0).normal(size=(3, 4, 8)).astype(np.float32)
    pair = classifier.probabilities(first, second)
    assert np.abs(pair - classifier.probabilities(first, third)).max() > 1e-3
    assert np.abs(pair - classifier.probabilities(third, second)).max() > 1e-3


def test_mgte_mlm_hides_thirty_percent_and_changes_the_rotary_base() -> None:
    short, long = stage_of("mgte-mlm", "mlm-2048"), stage_of("mgte-mlm", "mlm-8192")
    assert (short.mask_share, short.max_tokens, long.max_tokens) == (0.30, 2048, 8192)
    assert load_recipe("mgte-mlm").backbone.rope.theta == 10_000
    assert long.rope.theta == 160_000


@pytest.mark.parametrize(("name", "stage"), [("mgte-mlm", "mlm-8192"), ("gte-en-v1.5", "mlm-8192")])
def test_a_rotary_base_changes_what_far_tokens_see(name: str, stage: str, encoder_of: Any) -> None:
    from opengte.pipeline.backbone import change_rope

    encoder = encoder_of(f"{name}-tiny")
    text = " ".join([QUESTION] * 6)
    before = torch.tensor(encoder.encode([text]))
    after = torch.tensor(change_rope(encoder, stage_of(name, stage).rope).encode([text]))
    assert float((before - after).abs().max()) > 1e-6


def test_mgte_embed_learns_every_size_and_words() -> None:
    stage = stage_of("mgte-embed", "finetune")
    assert isinstance(stage.loss, MatryoshkaConfig)
    assert stage.loss.dimensions == tuple(range(32, 769, 32))
    batch = embedded(dimensions=768)
    last = replace(stage.loss, dimensions=(768,))
    ours, theirs = gradient(stage.loss, batch), gradient(last, batch)
    assert float(ours[:, :32].norm() / ours.norm()) > 2 * float(
        theirs[:, :32].norm() / theirs.norm()
    )
    assert load_recipe("mgte-embed").backbone.sparse_head
    assert stage.sparse is not None
    assert stage_of("mgte-embed", "pretrain").rope.theta == 20_000


def test_mgte_embed_sparse_head_weighs_words(encoder_of: Any) -> None:
    from opengte.models.sparse import SparseHead

    encoder = encoder_of("mgte-embed-tiny")
    assert isinstance(encoder.sparse_head, SparseHead)
    assert encoder_of("mgte-embed-tiny", sparse_head=False).sparse_head is None


def test_mgte_rerank_lists_are_one_positive_six_hard_four_random() -> None:
    mine, rerank = stage_of("mgte-rerank", "mine"), stage_of("mgte-rerank", "rerank")
    assert (mine.rules.num_negatives, mine.random_negatives) == (6, 4)
    assert rerank.list_size == 1 + 6 + 4


def test_modernbert_local_attention_hides_far_tokens(encoder_of: Any) -> None:
    text = " ".join([QUESTION, OTHER] * 4)
    config = load_recipe("gte-modernbert-tiny").backbone
    wide = {**config.shape, "local_attention": 128, "vocab_size": 30_592}
    near = torch.tensor(encoder_of("gte-modernbert-tiny").encode([text]))
    far = torch.tensor(encoder_of("gte-modernbert-tiny", shape=wide).encode([text]))
    assert float((near - far).abs().max()) > 1e-5


@pytest.mark.parametrize("name", ["gte-qwen2", "nv-embed-v2"])
def test_a_bidirectional_decoder_reads_forward_too(name: str, encoder_of: Any) -> None:
    """Mean pooling over states that see what follows; causal ones do not."""
    assert load_recipe(name).backbone.attention == "bidirectional"
    both = encoder_of(f"{name}-tiny").encode([QUESTION])
    causal = encoder_of(f"{name}-tiny", attention="causal").encode([QUESTION])
    assert np.abs(both - causal).max() > 1e-5


@pytest.mark.parametrize("name", ["qwen3-embedding", "e5-mistral"])
def test_a_causal_decoder_stays_causal(name: str, encoder_of: Any) -> None:
    assert load_recipe(name).backbone.attention == "causal"
    tiny = f"{name}-tiny"
    causal, both = (
        encoder_of(tiny, attention=kind).encode([QUESTION]) for kind in ("causal", "bidirectional")
    )
    assert np.abs(both - causal).max() > 1e-5


def test_qwen3_masks_texts_that_are_nearer_than_the_positive() -> None:
    for stage in ("pretrain", "finetune"):
        loss = stage_of("qwen3-embedding", stage).loss
        assert isinstance(loss, MatryoshkaConfig)
        assert isinstance(loss.loss, Qwen3ContrastiveConfig)
        masked, apart = replace(loss.loss, temperature=0.1), embedded(shared=0.5)
        assert value(replace(masked, margin=None), apart) > value(masked, apart) + 1e-3
        assert value(replace(masked, query_document=False), apart) < value(masked, apart) - 1e-6


def test_qwen3_merges_on_the_arc_and_not_on_the_line(encoder_of: Any) -> None:
    merge = stage_of("qwen3-embedding", "merge")
    assert merge.method == "slerp"
    assert len(merge.models) == 3
    first = encoder_of("qwen3-embedding-tiny")
    second = encoder_of("qwen3-embedding-tiny")
    with torch.no_grad():
        for weight in second.parameters():
            weight.add_(
                0.05 * torch.randn(weight.shape, generator=torch.Generator().manual_seed(1))
            )
    arc, line = merge_slerp([first, second]), merge_linear([first, second], [0.5, 0.5])
    lengths = [
        float(sum(p.detach().square().sum() for p in e.parameters()) ** 0.5) for e in (arc, line)
    ]
    assert lengths[0] > lengths[1]


def test_qwen3_reranker_hears_the_instruction_and_answers_yes_or_no(encoder_of: Any) -> None:
    stage = stage_of("qwen3-reranker", "rerank")
    assert stage.form == "yes_no"
    encoder = encoder_of("qwen3-reranker-tiny")
    prompts = YesNoPrompt(before="is it so ", after=" yes or no")
    asked = {"prompt": prompts, "max_tokens": 128}
    told = YesNoReranker(
        encoder.backbone, encoder.tokenizer, instruction=stage.instruction, **asked
    )
    untold = YesNoReranker(encoder.backbone, encoder.tokenizer, instruction="", **asked)
    score, without = (model.score(QUESTION, [OTHER])[0] for model in (told, untold))
    assert 0 < score < 1
    assert abs(score - without) > 1e-6
    turned = YesNoPrompt(before=prompts.before, after=prompts.after, yes="no", no="yes")
    asked["prompt"] = turned
    other = YesNoReranker(
        encoder.backbone, encoder.tokenizer, instruction=stage.instruction, **asked
    )
    assert other.score(QUESTION, [OTHER])[0] == pytest.approx(1 - score, abs=1e-5)


def refused(rules: Any, folder: Path) -> dict[str, int]:
    """What each rule refuses among near copies, with a teacher that sees words alone."""
    texts = [f"open file number {i} and read line {i % 3} of it" for i in range(24)]
    pairs = [Pair(f"open file {i}", text) for i, text in enumerate(texts)]
    report = mine_negatives(pairs, None, HashEncoder(), rules, folder=folder).report
    return {name: outcome.count for name, outcome in report.skipped.items()}


@pytest.mark.parametrize("name", ["nv-embed-v2", "linq-embed-mistral", "qwen3-reranker"])
def test_perc_pos_refuses_candidates_that_are_too_good(name: str, tmp_path: Path) -> None:
    rules = replace(stage_of(name, "mine").rules, num_negatives=2, last_rank=20)
    assert rules.perc_pos == 0.95
    assert refused(rules, tmp_path / "on")["perc_pos"] > 0
    assert "perc_pos" not in refused(replace(rules, perc_pos=None), tmp_path / "off")


def test_nv_embed_latents_change_vectors(encoder_of: Any) -> None:
    config = load_recipe("nv-embed-v2").backbone.latent_attention
    assert (config.num_latents, config.num_heads) == (512, 8)
    on = encoder_of("nv-embed-v2-tiny").encode([QUESTION])
    off = encoder_of("nv-embed-v2-tiny", latent_attention=None).encode([QUESTION])
    assert np.abs(on - off).max() > 1e-3


@pytest.mark.parametrize("name", ["nv-embed-v2", "instructor"])
def test_instruction_tokens_are_left_out_of_pooling(name: str, encoder_of: Any) -> None:
    assert load_recipe(name).backbone.include_prompt is False
    prompt = "Represent the question for retrieving code: "
    masked = encoder_of(f"{name}-tiny").encode([QUESTION], prompt=prompt)
    pooled = encoder_of(f"{name}-tiny", include_prompt=True).encode([QUESTION], prompt=prompt)
    assert np.abs(masked - pooled).max() > 1e-3


def test_nv_embed_switches_in_batch_negatives_off_in_stage_two() -> None:
    first, second = stage_of("nv-embed-v2", "retrieval"), stage_of("nv-embed-v2", "all-tasks")
    assert not any(source.in_batch_negatives for source in second.sources.values())
    alone = replace(embedded(), in_batch_negatives=False)
    assert value(first.loss, embedded()) > value(second.loss, alone) + 1e-3


def test_e5_mistral_queries_carry_an_instruction_and_documents_none(encoder_of: Any) -> None:
    prompts = load_recipe("e5-mistral").backbone.prompts
    assert prompts.query.startswith("Instruct: ")
    assert prompts.query.endswith("\nQuery: ")
    assert prompts.document == ""
    encoder = encoder_of("e5-mistral-tiny")
    query, document = (encoder.encode([QUESTION], kind=kind) for kind in ("query", "document"))
    assert np.abs(query - document).max() > 1e-3


def batches(mixture: Any, num_steps: int) -> list[set[str]]:
    """Names of the sources in each of the first batches."""
    rows = {"retrieval": 90, "sts": 60, "classification": 30}
    sources = [
        Source.from_pairs(name, [Pair(f"{name} {i}", f"{i} {name}") for i in range(n)], task=name)
        for name, n in rows.items()
    ]
    config = replace(mixture, batch_size=8, max_negatives=0)
    return [set(Mixture(sources, config).batch(step).row_sources) for step in range(num_steps)]


def test_linq_takes_tasks_one_after_another_and_then_mixes_them() -> None:
    ordered = stage_of("linq-embed-mistral", "ordered").mixture
    order = ("retrieval", "sts", "classification")
    found = batches(replace(ordered, order=order, num_steps=12), 12)
    assert all(len(names) == 1 for names in found)
    tasks = [next(iter(names)) for names in found]
    assert sorted(tasks, key=order.index) == tasks
    mixed = batches(stage_of("linq-embed-mistral", "mixed").mixture, 12)
    assert any(len(names) > 1 for names in mixed)


def conan_loss() -> ConanBalanceConfig:
    loss = stage_of("conan-v1", "finetune").loss
    assert isinstance(loss, MatryoshkaConfig)
    assert isinstance(loss.loss, ConanBalanceConfig)
    return loss.loss


def test_conan_weighs_graded_rows_beside_negatives_of_the_whole_batch() -> None:
    nan = float("nan")
    batch = embedded(scores=torch.tensor([nan, nan, nan, 0.1, 0.5, 0.9], dtype=torch.float64))
    loss = conan_loss()
    assert loss.beta == 0.8
    assert value(loss, batch) > value(replace(loss, beta=0.0), batch) + 1e-3
    assert value(loss, batch) > value(replace(loss, hard_negatives="own"), batch) + 1e-3


def test_conan_batches_hold_every_task() -> None:
    mixture = replace(stage_of("conan-v1", "finetune").mixture, batch_size=16, max_negatives=0)
    graded = [Pair(f"a{i}", f"b{i}", score=i / 40) for i in range(40)]
    mined = [Pair(f"q{i}", f"d{i}", (f"n{i}",)) for i in range(40)]
    sources = [Source.from_pairs("mined", mined), Source.from_pairs("sts", graded, scored=True)]
    found = [set(Mixture(sources, mixture).batch(step).row_sources) for step in range(6)]
    assert all(names == {"mined", "sts"} for names in found)
    alone = [
        set(Mixture(sources, replace(mixture, mode="mixed")).batch(step).row_sources)
        for step in range(6)
    ]
    assert all(len(names) == 1 for names in alone)


def test_conan_settings_of_replacement_are_the_papers() -> None:
    rule = stage_of("conan-v1", "finetune").refresh.dynamic
    assert (rule.every_steps, rule.factor, rule.max_score, rule.offset) == (100, 1.15, 0.8, 10)
    assert stage_of("conan-v1", "mine").keep_ranked


def test_xiaobu_circle_gradient_is_not_infonce_s() -> None:
    loss = stage_of("xiaobu-v2", "finetune").loss
    assert isinstance(loss, CircleConfig)
    ours = gradient(loss, embedded()).flatten()
    theirs = gradient(InfoNCEConfig(temperature=1 / loss.gamma), embedded()).flatten()
    assert float(torch.nn.functional.cosine_similarity(ours, theirs, dim=0)) < 0.999
    flat = gradient(replace(loss, margin=0.0), embedded()).flatten()
    assert float(torch.nn.functional.cosine_similarity(ours, flat, dim=0)) < 0.9999


def test_instructor_loss_runs_in_both_directions_without_other_positives_as_negatives() -> None:
    loss = stage_of("instructor", "finetune").loss
    assert isinstance(loss, InstructorConfig)
    both = gradient(loss, embedded())
    assert states_differ(both, gradient(InfoNCEConfig(temperature=loss.temperature), embedded()))


def test_instructor_puts_an_instruction_before_both_sides_of_every_source() -> None:
    for source in stage_of("instructor", "finetune").sources.values():
        assert source.query_prompt
        assert source.document_prompt


@pytest.mark.parametrize("name", ["cpt-text", "cpt-code"])
def test_cpt_sides_have_delimiters_of_their_own(name: str, encoder_of: Any) -> None:
    encoder = encoder_of(f"{name}-tiny")
    query, document = (encoder.encode([QUESTION], kind=kind) for kind in ("query", "document"))
    assert np.abs(query - document).max() > 1e-4
    plain = encoder_of(f"{name}-tiny", query_delimiters=None, document_delimiters=None)
    query, document = (plain.encode([QUESTION], kind=kind) for kind in ("query", "document"))
    assert np.abs(query - document).max() == 0


def test_cpt_temperature_is_learned() -> None:
    loss = stage_of("cpt-text", "pretrain").loss
    module = make_loss(loss)
    assert isinstance(module, torch.nn.Module)
    assert sum(1 for _ in module.parameters()) == 1
    assert not isinstance(make_loss(replace(loss, learn_temperature=False)), torch.nn.Module)


def test_e5_keeps_pairs_whose_passage_ranks_in_the_first_two(tmp_path: Path) -> None:
    stage = stage_of("e5", "filter")
    assert (stage.rule, stage.top_k, stage.pool_size) == ("consistency", 2, 1_000_000)
    pairs = [Pair(f"word{i} of text", f"word{i} stands in this passage") for i in range(12)]
    pairs += [Pair("word3 of text", "nothing to do with it")]
    pool = random_pool(pairs, len(pairs))
    judged = judge_positives(pairs, pool, HashEncoder(), folder=tmp_path, depth=len(pairs))
    kept = keep_consistent(pairs, judged, top_k=stage.top_k)
    assert len(kept.pairs) < len(pairs)
    assert len(keep_consistent(pairs, judged, top_k=len(pairs)).pairs) == len(pairs)


def test_e5_freezes_positions_and_distils_beside_contrast() -> None:
    assert stage_of("e5", "pretrain").training.frozen == ("positions",)
    loss = stage_of("e5", "finetune").loss
    assert isinstance(loss, WeightedSumConfig)
    assert loss.weights == (1.0, 0.2)
    assert isinstance(loss.losses[0], KLDistillationConfig)
    scores = {
        "teacher_scores": torch.linspace(-2, 3, 6, dtype=torch.float64),
        "negative_teacher_scores": torch.linspace(-3, 1, 12, dtype=torch.float64),
    }
    alone = replace(loss, weights=(1.0, 0.0))
    assert value(loss, embedded(**scores)) > value(alone, embedded(**scores)) + 1e-3
    contrast = replace(loss, weights=(0.0, 0.2))
    assert value(loss, embedded(**scores)) > value(contrast, embedded(**scores)) + 1e-3


def test_bge_leaves_the_best_candidate_out(tmp_path: Path) -> None:
    rules = replace(stage_of("bge", "mine").rules, last_rank=20)
    assert rules.first_rank == 2
    from_second = refused(rules, tmp_path / "second")["rank_window"]
    from_first = refused(replace(rules, first_rank=1), tmp_path / "first")["rank_window"]
    assert from_second == from_first + 24


def test_bge_rebuilds_more_than_it_hides_and_merges_two_models() -> None:
    stage, merge = stage_of("bge", "retromae"), stage_of("bge", "merge")
    assert (stage.encoder_mask_share, stage.decoder_mask_share) == (0.3, 0.5)
    assert merge.method == "linear"
    assert merge.models == ("with-instruction", "without-instruction")
    first, second = (stage_of("bge", name) for name in merge.models)
    assert first.mixture.prompts.query
    assert not second.mixture.prompts.query


def test_gpl_learns_margins_and_not_ranks() -> None:
    loss = stage_of("gpl", "distill").loss
    assert isinstance(loss, MarginMSEConfig)
    scores = {
        "teacher_scores": torch.zeros(6, dtype=torch.float64),
        "negative_teacher_scores": torch.zeros(12, dtype=torch.float64),
    }
    shifted = {name: scores_of + 5 for name, scores_of in scores.items()}
    assert value(loss, embedded(**scores)) == pytest.approx(value(loss, embedded(**shifted)))
    wider = {**scores, "teacher_scores": scores["teacher_scores"] + 1}
    assert value(loss, embedded(**wider)) != pytest.approx(value(loss, embedded(**scores)))


def test_distillation_brings_the_student_to_the_teacher() -> None:
    loss = stage_of("distill-from-larger", "imitate").loss
    batch = embedded()
    taught = replace(batch, teacher_queries=batch.queries, teacher_documents=batch.documents)
    assert value(loss, taught) == pytest.approx(0, abs=1e-12)
    other = embedded(1)
    wrong = replace(batch, teacher_queries=other.queries, teacher_documents=other.documents)
    assert value(loss, wrong) > 0.1
    assert stage_of("distill-from-larger", "imitate").project
