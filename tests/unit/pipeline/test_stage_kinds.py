"""Every kind of stage on a tiny model: it runs, says what its mechanism did, and feeds the next."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from opengte.data.readers import read_pairs
from opengte.evaluation.training_manifest import TrainingManifest
from opengte.loading import load
from opengte.pipeline.runner import StageResult, snapshot_folder

TRAINING = {"learning_rate": 5e-3, "precision": "float32", "checkpoint_every": 1000}


def steps(number: int) -> dict[str, Any]:
    return {**TRAINING, "num_steps": number}


@pytest.fixture(scope="module")
def ran(tmp_path_factory, run_stages, world) -> tuple[Path, dict[str, StageResult]]:
    """One run with everything in it; the tests look at its parts."""
    folder = tmp_path_factory.mktemp("runs") / "all"
    texts = {"notes": {"path": str(world.texts)}}
    stages = {
        "data": {
            "kind": "split",
            "sources": {"topics": {"path": str(world.pairs), "query_prompt": "w0 "}},
            "test_queries": 24,
            "near_duplicate_threshold": 1.0,
        },
        "mlm": {"kind": "mlm", "model": "base", "texts": texts, "mask_share": 0.3,
                "max_tokens": 16, "batch_size": 16, "held_out": 8, "training": steps(8)},
        "longer": {"kind": "mlm", "model": "mlm", "texts": texts,
                   "batch_size": 16,
                   "held_out": 8, "training": steps(2)},
        "retro": {"kind": "retromae", "model": "longer", "texts": texts,
                  "batch_size": 16, "held_out": 8, "training": steps(12)},
        "learned": {"kind": "contrastive", "model": "base", "pairs": "data", "snapshots": [0.5],
                    "loss": {"kind": "info_nce", "temperature": 0.1},
                    "mixture": {"batch_size": 16, "max_negatives": 1}, "training": steps(24)},
        "kept": {"kind": "filter", "pairs": "data", "model": "base", "top_k": 40,
                 "pool_size": 80},
        "scored": {"kind": "filter", "pairs": "data", "model": "learned", "rule": "score",
                   "min_score": 0.9},
        "hard": {"kind": "mine", "pairs": "data", "model": "learned", "max_queries": 40,
                 "keep_ranked": True,
                 "rules": {"num_negatives": 2, "last_rank": 30, "perc_pos": 0.95,
                           "near_duplicate": None}},
        "harder": {"kind": "mine", "pairs": "data", "model": "base", "max_queries": 20,
                   "random_negatives": 2, "teacher": {"stage": "learned"},
                   "rules": {"num_negatives": 1, "perc_pos": None}},
        "refreshed": {"kind": "contrastive", "model": "learned", "pairs": "hard",
                      "refresh": {"dynamic": {"every_steps": 2, "factor": 1.0, "max_score": 1.1,
                                              "offset": 1}},
                      "loss": {"kind": "info_nce", "temperature": 0.1},
                      "mixture": {"batch_size": 16}, "training": steps(8)},
        "merged": {"kind": "merge", "method": "slerp",
                   "models": ["learned@0.5", "learned", "refreshed"]},
        "mixed": {"kind": "merge", "method": "linear", "models": ["base", "learned"],
                  "shares": [0.25, 0.75]},
        "rerank": {"kind": "rerank-train", "model": "learned", "pairs": "data", "list_size": 4,
                   "batch_size": 12, "training": steps(12)},
        "judged": {"kind": "mine", "pairs": "data", "model": "learned", "max_queries": 10,
                   "teacher": {"stage": "rerank", "kind": "cross_encoder", "depth": 12},
                   "rules": {"num_negatives": 1, "perc_pos": None, "last_rank": 12}},
        "margins": {"kind": "distill", "model": "base", "pairs": "data",
                    "teacher": {"stage": "rerank", "kind": "cross_encoder"},
                    "loss": {"kind": "margin_mse"}, "mixture": {"batch_size": 12},
                    "training": steps(3)},
        "copied": {"kind": "distill", "model": "base", "pairs": "data",
                   "teacher": {"stage": "learned"}, "mixture": {"batch_size": 16},
                   "training": steps(12)},
        "classes": {"kind": "classify-train", "model": "learned", "data": str(world.labelled),
                    "batch_size": 16, "held_out": 0.25, "training": steps(25)},
        "nli": {"kind": "classify-train", "model": "learned", "data": str(world.sentences),
                "inputs": "pair", "train_backbone": False, "batch_size": 16,
                "training": steps(4)},
        "made": {"kind": "synthesize", "documents": str(world.texts),
                 "synthesis": {"max_documents": 20}},
        "measured": {"kind": "evaluate", "model": "learned", "baseline": "base", "data": "data",
                     "slices": False},
        "reranked": {"kind": "evaluate", "model": "rerank", "baseline": "learned", "data": "data",
                     "depth": 8},
        "folder": {"kind": "export", "model": "learned", "format": "safetensors",
                   "output": "model"},
    }  # fmt: skip
    return folder, run_stages(folder, stages)


def facts(ran: tuple[Path, dict[str, StageResult]], stage: str) -> dict[str, Any]:
    recorded = json.loads((ran[0] / "stages" / stage / "stage.json").read_text())["facts"]
    assert recorded == json.loads(json.dumps(dict(ran[1][stage].facts)))
    return recorded


def test_a_split_holds_whole_rows_out(ran):
    train = list(read_pairs(ran[1]["data"].output / "train.jsonl"))
    held = [
        json.loads(line)["text"]
        for line in (ran[1]["data"].output / "test" / "queries.jsonl").read_text().splitlines()
    ]
    found = facts(ran, "data")
    assert found["num_test_queries"] == len(held) >= 20
    assert found["num_train_pairs"] == len(train)
    assert not {pair.query for pair in train} & set(held)
    assert {pair.kind for pair in train} == {"topics"}


def test_hidden_tokens_are_guessed_better_after_mlm(ran):
    found = facts(ran, "mlm")
    assert found["held_out"]["ci95"][1] < 0
    guessed = found["first_batch"]["num_guessed"][0] / found["first_batch"]["num_tokens"]
    assert 0.2 < guessed < 0.3  # 30 % of what is no special token


def test_a_second_mlm_stage_goes_on_with_the_first_ones_head(ran):
    assert (ran[1]["mlm"].output / "token_head.safetensors").is_file()
    first, second = facts(ran, "mlm")["held_out"], facts(ran, "longer")["held_out"]
    # Another stage hides other tokens, of other texts; without the head it would begin anew.
    assert second["before"] < (first["before"] + first["after"]) / 2


def test_retromae_makes_the_text_easier_to_rebuild(ran):
    found = facts(ran, "retro")
    assert found["held_out"]["ci95"][1] < 0
    encoder, decoder = found["first_batch"]["num_guessed"]
    assert decoder > 2 * encoder  # enhanced decoding guesses every token


def test_a_source_s_prompt_follows_its_pairs_through_the_split(ran, tiny_model, tmp_path):
    lines = (ran[0] / "stages" / "learned" / "training" / "metrics.jsonl").read_text().splitlines()
    tokens = json.loads(lines[0])["num_tokens"]
    pairs = list(read_pairs(ran[1]["data"].output / "train.jsonl"))
    per_row = np.mean([len(p.query.split()) + len(p.positive.split()) + 6 for p in pairs])
    assert tokens == pytest.approx(16 * (per_row + 3 * 2), rel=0.05)


@pytest.mark.parametrize(
    ("stage", "datasets"),
    [
        ("longer", {"notes", "texts"}),
        ("retro", {"notes", "texts"}),
        ("learned", {"topics", "pairs"}),
        ("refreshed", {"topics", "pairs"}),
        ("merged", {"topics", "pairs"}),
        ("mixed", {"topics", "pairs"}),
        ("rerank", {"topics", "pairs"}),
        ("margins", {"topics", "pairs"}),
        ("copied", {"topics", "pairs"}),
        ("classes", {"topics", "pairs", "labelled"}),
        ("nli", {"topics", "pairs", "sentences"}),
        ("folder", {"topics", "pairs"}),
    ],
)
def test_every_model_says_what_it_was_trained_on(ran, tiny_model, stage, datasets):
    manifest = TrainingManifest.load(ran[1][stage].output)
    assert manifest.datasets == datasets
    assert manifest.unknown_starts == {tiny_model.name}
    if datasets == {"topics", "pairs"}:
        train = list(read_pairs(ran[1]["data"].output / "train.jsonl"))
        held = (ran[1]["data"].output / "test" / "queries.jsonl").read_text().splitlines()
        assert manifest.has_pairs([(pair.query, pair.positive) for pair in train]).all()
        assert not manifest.has_texts([json.loads(line)["text"] for line in held]).any()


def test_a_kept_moment_says_it_too_and_a_texts_number_is_no_text(ran):
    snapshot = TrainingManifest.load(snapshot_folder(ran[0], "learned", 0.5))
    whole = TrainingManifest.load(ran[1]["learned"].output)
    assert np.array_equal(snapshot.texts, whole.texts)
    texts = TrainingManifest.load(ran[1]["longer"].output)
    assert len(texts.pairs) == 0
    assert not texts.has_texts(["text 1 of notes"]).any()
    assert 60 < len(texts.texts) <= 80 - 8 + 8  # held out: other eight in each of the two stages


def test_contrastive_training_gains_on_the_held_out_searches(ran):
    difference = facts(ran, "measured")["differences"]["data"]
    assert difference["metric"] == "mrr@10"
    assert difference["ci95"][0] > 0
    assert difference["difference"] == pytest.approx(
        difference["value"] - difference["baseline"], abs=2e-4
    )


def test_a_snapshot_is_a_model_of_an_earlier_moment(ran):
    texts = ["w1 w2 w3"]
    early = load(snapshot_folder(ran[0], "learned", 0.5)).encode(texts)
    late = load(ran[1]["learned"].output).encode(texts)
    start = load(_base(ran)).encode(texts)
    assert np.abs(early - start).max() > 1e-3
    assert np.abs(late - early).max() > 1e-3


def test_filters_keep_some_and_count_the_rest_by_reason(ran):
    for stage, kept, dropped in (
        ("kept", "in_top_k", "not_in_top_k"),
        ("scored", "score_reached", "score_too_low"),
    ):
        found = facts(ran, stage)
        assert 0 < found["num_kept"] < found["num_pairs"]
        assert found["kept"] == {kept: found["num_kept"]}
        assert found["dropped"] == {dropped: found["num_dropped"]}
        left = list(read_pairs(ran[1][stage].output / "train.jsonl"))
        assert len(left) == found["num_kept"]


def test_perc_pos_refuses_candidates_and_another_teacher_none(ran):
    refused = facts(ran, "hard")["report"]["skipped"]
    assert refused["perc_pos"]["count"] > 0
    assert "perc_pos" not in facts(ran, "harder")["report"]["skipped"]


def test_random_negatives_come_behind_the_mined_ones(ran):
    found = facts(ran, "harder")
    assert found["num_random_negatives"] == 2 * found["num_queries"]
    pairs = list(read_pairs(ran[1]["harder"].output / "train.jsonl"))
    assert all(len(pair.negatives) >= 3 for pair in pairs)
    assert all(pair.positive not in pair.negatives for pair in pairs)


def test_dynamic_negatives_are_replaced_while_it_learns(ran):
    found = facts(ran, "refreshed")["refreshed"]
    assert found["num_checks"] == 4
    assert found["num_replaced"] > 0


def test_merged_weights_lie_between_those_they_came_from(ran):
    found = facts(ran, "merged")
    assert found["method"] == "slerp"
    assert found["shares"] == [pytest.approx(1 / 3, abs=1e-6)] * 3
    assert found["angles"]["largest"] > 0
    base, learned, mixed = (_weights(ran, name) for name in ("base", "learned", "mixed"))
    for name, value in mixed.items():
        expected = 0.25 * base[name] + 0.75 * learned[name]
        np.testing.assert_allclose(value, expected, atol=1e-6)


def test_a_reranker_orders_better_than_it_did_and_reads_what_was_ranked_first(ran):
    trained = facts(ran, "rerank")
    assert trained["first_lists"]["candidates"] == 4
    assert trained["first_lists"]["own_negatives"] == 1
    assert trained["first_lists"]["filled_up"] == 2
    systems = facts(ran, "reranked")["systems"]
    assert set(systems) == {"data/first", "data/reranked"}
    assert systems["data/first"]["recall@10"] == systems["data/reranked"]["recall@10"]
    assert facts(ran, "reranked")["differences"]["data"]["baseline"] == pytest.approx(
        systems["data/first"]["mrr@10"], abs=1e-4
    )


def test_a_reranker_of_the_run_can_teach_mining_and_distillation(ran):
    assert facts(ran, "judged")["num_negatives"] >= 10
    found = facts(ran, "margins")
    pairs = list(read_pairs(ran[1]["data"].output / "train.jsonl"))
    asked = {(p.query, text) for p in pairs for text in (p.positive, *p.negatives)}
    assert found["num_labels"] == len(asked)
    assert found["teacher_dimensions"] is None


def test_a_student_comes_nearer_to_its_teacher(ran, world):
    found = facts(ran, "copied")
    assert found["teacher_dimensions"] == 32
    assert not found["projected"]
    texts = [pair.positive for pair in read_pairs(world.pairs)][:30]
    teacher, student, base = (
        load(ran[1][name].output if name in ran[1] else name).encode(texts)
        for name in ("learned", "copied", _base(ran))
    )
    assert np.square(teacher - student).sum() < 0.7 * np.square(teacher - base).sum()


def test_a_classifier_beats_the_largest_class(ran):
    found = facts(ran, "classes")
    assert found["labels"] == ["topic_0", "topic_1", "topic_2"]
    assert found["held_out"]["ci95"][0] > 0
    from opengte.models.classifier import EmbeddingClassifier

    made = EmbeddingClassifier.load(ran[1]["classes"].output / "classifier")
    vectors = load(ran[1]["classes"].output).encode(["w1 w2 w3 w4"])
    assert made.probabilities(vectors).shape == (1, 3)


def test_a_frozen_backbone_gives_the_vectors_it_gave(ran):
    before, after = (load(ran[1][name].output).encode(["w1 w2 w3"]) for name in ("learned", "nli"))
    np.testing.assert_allclose(before, after, atol=1e-6)
    assert facts(ran, "nli")["labels"] == ["contradiction", "entailment"]


def test_synthesis_says_who_wrote_and_what_was_dropped(ran):
    found = facts(ran, "made")
    assert found["model"] == "extractive"
    assert found["num_documents"] == 20
    assert found["num_pairs"] == len(list(read_pairs(ran[1]["made"].output / "train.jsonl")))
    assert found["num_pairs"] + sum(found["dropped"].values()) == found["num_drafts"]


def test_an_exported_folder_gives_the_same_vectors(ran):
    assert facts(ran, "folder")["parity"]["max_abs_difference"] < 1e-6
    assert (ran[0] / "model" / "modules.json").is_file()


def _base(ran: tuple[Path, dict[str, StageResult]]) -> str:
    import yaml

    recipe = yaml.safe_load((ran[0] / "recipe.resolved.yaml").read_text())
    return str(recipe["backbone"]["model"])


def _weights(ran: tuple[Path, dict[str, StageResult]], name: str) -> dict[str, Any]:
    from safetensors.numpy import load_file

    folder = Path(_base(ran)) if name == "base" else ran[1][name].output
    return load_file(folder / "model.safetensors")
