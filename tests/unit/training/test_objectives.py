"""Objectives beside contrastive ones: right losses, right gradients, and runs that go on."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from tiny_texts import TEXTS, batch, make_tokenizer
from torch.nn import functional

from opengte.contracts import StepContext
from opengte.errors import ConfigError
from opengte.losses.language_modelling import IGNORED
from opengte.models.bert import PackedBert, initialise
from opengte.models.classifier import EmbeddingClassifier
from opengte.models.config import EncoderSettings
from opengte.models.cross_encoder import CrossEncoder
from opengte.models.encoder import Encoder
from opengte.models.masked_language_model import MaskedLanguageModel
from opengte.models.packing import pack
from opengte.models.score_head import ScoreHead
from opengte.models.token_head import TokenHead
from opengte.records import Batch
from opengte.training.classification_objective import ClassificationObjective, ClassifyingEncoder
from opengte.training.config import TrainingConfig
from opengte.training.distributed import World
from opengte.training.language_objectives import MlmObjective
from opengte.training.leaf_step import LeafLearner
from opengte.training.loop import train_with
from opengte.training.masking import MaskingRules
from opengte.training.parallel import SingleProcess
from opengte.training.reranking_objective import RerankingObjective
from opengte.training.summed_step import SummedLearner, SummedStep

CONFIG = {
    "model_type": "bert",
    "vocab_size": 105,
    "hidden_size": 16,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "intermediate_size": 32,
    "max_position_embeddings": 64,
    "hidden_dropout_prob": 0.0,
    "attention_probs_dropout_prob": 0.0,
}
ONE = World(0, 1, torch.device("cpu"))


def backbone() -> PackedBert:
    made = PackedBert(CONFIG)
    initialise(made, seed=0)
    return made


def mlm_model() -> MaskedLanguageModel:
    torch.manual_seed(0)
    return MaskedLanguageModel(backbone(), TokenHead(16, 105), compute_dtype="float32")


def mlm_objective(micro_batch_tokens: int = 64) -> MlmObjective:
    return MlmObjective(
        make_tokenizer(),
        MaskingRules(share=0.3),
        max_tokens=32,
        micro_batch_tokens=micro_batch_tokens,
        seed=1,
    )


class Same:
    """One batch at every step, shifted."""

    fingerprint = "same"

    def batch(self, step: int) -> Batch:
        texts = TEXTS[step % 5 :] + TEXTS[: step % 5]
        return batch(texts, step)


class Pairs(Same):
    """Queries with a document each and one negative."""

    fingerprint = "pairs"

    def batch(self, step: int) -> Batch:
        given = super().batch(step)

        labels = np.asarray([len(text) % 3 for text in given.queries], dtype=np.int64)
        return Batch(
            step=step,
            source="s",
            queries=given.queries,
            positives=[f"{text} w{n}" for n, text in enumerate(given.queries)],
            negatives=[(f"w{n} w7",) for n in range(len(given))],
            row_ids=given.row_ids,
            row_sources=given.row_sources,
            query_labels=labels,
        )


def gradients(model: torch.nn.Module) -> dict[str, torch.Tensor]:
    return {n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None}


def test_the_mlm_step_is_the_mean_over_all_hidden_tokens_of_the_batch():
    model, objective = mlm_model(), mlm_objective()
    step = SummedStep(model, objective, TrainingConfig(), world=ONE, parallelism=SingleProcess(ONE))
    prepared = step.prepare(Same(), 2)
    assert len(prepared.micro_batches) > 2
    outcome = step.run(prepared)
    found = gradients(model)
    model.zero_grad()
    (whole,) = mlm_objective(10_000).cut(Same().batch(2), 0)
    logits = model.head(model.token_states(pack(whole.texts)), model.backbone.word_embedding.weight)
    expected = functional.cross_entropy(
        logits, torch.from_numpy(whole.labels), ignore_index=IGNORED
    )
    expected.backward()
    assert outcome.loss == pytest.approx(float(expected.detach()), abs=1e-5)
    for name, value in gradients(model).items():
        torch.testing.assert_close(found[name], value, atol=1e-5, rtol=1e-4)


def test_a_head_on_chosen_tokens_alone_gives_their_logits():
    model = mlm_model()
    packed = pack(make_tokenizer().encode(TEXTS[:3], max_tokens=32))
    everything = model(packed, torch.arange(packed.num_tokens))
    some = torch.tensor([1, 4, 9])
    torch.testing.assert_close(model(packed, some), everything[some])


class LeftHere(Exception):
    pass


class Leave:
    """Stops where a kill would, after a checkpoint."""

    def __init__(self, stop_after: int) -> None:
        self.stop_after = stop_after

    def on_step(self, context: StepContext) -> None:
        if context.step == self.stop_after:
            raise LeftHere

    def state_dict(self):
        return {}

    def load_state_dict(self, state) -> None:
        pass


def learner(kind: str):
    torch.manual_seed(3)
    if kind == "mlm":
        return mlm_model(), SummedLearner(mlm_objective())
    if kind == "rerank":
        head = ScoreHead(16, 1, dropout=0.1)
        model = CrossEncoder(backbone(), head, make_tokenizer(), max_tokens=48,
                             compute_dtype="float32")  # fmt: skip
        objective = RerankingObjective(model, form="cross_encoder", list_size=4, seed=0)
        return model, LeafLearner(objective, max_tokens=48)
    encoder = Encoder(
        backbone(), make_tokenizer(), EncoderSettings(max_tokens=48), compute_dtype="float32"
    )
    model = ClassifyingEncoder(encoder, EmbeddingClassifier(16, ["a", "b", "c"], inputs="pair"))
    return model, LeafLearner(ClassificationObjective(encoder, inputs="pair"), max_tokens=48)


@pytest.mark.parametrize("kind", ["mlm", "rerank", "classify"])
def test_a_run_that_was_killed_ends_with_the_weights_of_one_that_was_not(kind, tmp_path):
    config = TrainingConfig(
        num_steps=6, checkpoint_every=2, learning_rate=1e-2, precision="float32", dropout=0.1,
        micro_batch_tokens=64, asynchronous_checkpoints=False,
    )  # fmt: skip
    batches = Same() if kind == "mlm" else Pairs()
    quiet = {"progress": lambda done, total: None}
    whole, objective = learner(kind)
    start = {name: value.clone() for name, value in whole.state_dict().items()}
    result = train_with(
        objective, whole, batches, config, folder=tmp_path / "a", callbacks=[Leave(0)], **quiet
    )
    killed, objective = learner(kind)
    with pytest.raises(LeftHere):
        train_with(
            objective, killed, batches, config, folder=tmp_path / "b", callbacks=[Leave(5)], **quiet
        )
    resumed, objective = learner(kind)
    train_with(
        objective, resumed, batches, config, folder=tmp_path / "b", callbacks=[Leave(0)], **quiet
    )
    assert result.num_steps == 6
    moved = 0.0
    for name, value in whole.state_dict().items():
        torch.testing.assert_close(resumed.state_dict()[name], value, rtol=0, atol=0)
        moved = max(moved, float((value - start[name]).abs().max()))
    assert moved > 1e-3


def test_reranking_sends_the_gradient_of_the_whole_list_through_cut_micro_batches():
    found = []
    for tokens in (40, 100_000):
        torch.manual_seed(0)
        model = CrossEncoder(backbone(), ScoreHead(16, 1, dropout=0.0), make_tokenizer(),
                             max_tokens=48, compute_dtype="float32")  # fmt: skip
        objective = RerankingObjective(model, form="cross_encoder", list_size=4, seed=0)
        config = TrainingConfig(micro_batch_tokens=tokens, gradient_cache="always")
        made = LeafLearner(objective, max_tokens=48)
        made.look_at(model, config)
        parallelism = SingleProcess(ONE)
        step = made.make_step(model, config, world=ONE, parallelism=parallelism,
                              parameters=dict(model.named_parameters()))  # fmt: skip
        outcome = step.run(step.prepare(Pairs(), 0))
        found.append((outcome.loss, gradients(model)))
    (first, cut), (second, whole) = found
    assert first == pytest.approx(second, abs=1e-6)
    assert set(cut) == set(whole)
    for name, value in whole.items():
        torch.testing.assert_close(cut[name], value, atol=1e-6, rtol=1e-4)


def test_lists_hold_the_positive_first_its_negatives_and_others_documents():
    torch.manual_seed(0)
    model = CrossEncoder(backbone(), ScoreHead(16, 1), make_tokenizer(), max_tokens=48)
    objective = RerankingObjective(model, form="cross_encoder", list_size=5, seed=0)
    given = Pairs().batch(0)
    for row, texts in enumerate(objective.lists(given, 0)):
        assert texts[0] == given.positives[row]
        assert texts[1] == given.negatives[row][0]
        assert len(texts) == len(set(texts)) == 5
        assert set(texts[2:]) <= set(given.positives)
    again = RerankingObjective(model, form="cross_encoder", list_size=5, seed=0)
    assert again.lists(given, 0) == objective.lists(given, 0)


def test_weights_of_other_models_cannot_be_sharded():
    model, made = learner("mlm")
    with pytest.raises(ConfigError, match="strategy fsdp shards encoders alone"):
        made.look_at(model, TrainingConfig(strategy="fsdp"))
