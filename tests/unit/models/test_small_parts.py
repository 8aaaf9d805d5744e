"""Freezing, vocabulary size, planning, classifier and adapters."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch

from opengte.errors import ConfigError, ModelFolderError
from opengte.models.classifier import EmbeddingClassifier
from opengte.models.encoder import Encoder
from opengte.models.freezing import freeze, unfreeze
from opengte.models.lora import LoraSettings, add_lora, merge_lora
from opengte.models.planning import count_parameters, weight_shapes
from opengte.models.vocabulary import padded_size, resize_vocabulary

# -- freezing -----------------------------------------------------------------------------------


def learns(encoder):
    return {name for name, parameter in encoder.named_parameters() if parameter.requires_grad}


def test_frozen_positions_and_layers_do_not_learn(tiny_encoder, words):
    everything = learns(tiny_encoder)
    frozen = freeze(tiny_encoder, positions=True, first_layers=1)
    assert "backbone.embeddings.position.weight" in frozen
    assert {name for name in everything if ".layers.0." in name} <= set(frozen)
    assert learns(tiny_encoder) == everything - set(frozen)
    tiny_encoder.train()
    tiny_encoder(tiny_encoder.pack(tiny_encoder.tokenize(words([5])))).sum().backward()
    for name, parameter in tiny_encoder.named_parameters():
        assert (parameter.grad is None) == (name in frozen), name
    unfreeze(tiny_encoder)
    assert learns(tiny_encoder) == everything


def test_words_or_the_whole_backbone(tiny_encoder):
    assert freeze(tiny_encoder, words=True) == ["backbone.embeddings.word.weight"]
    freeze(tiny_encoder, backbone=True)
    assert not learns(tiny_encoder)


def test_more_layers_than_there_are_is_refused(tiny_encoder):
    with pytest.raises(ConfigError, match="first_layers must be at most 2, got 3"):
        freeze(tiny_encoder, first_layers=3)


def test_positions_that_do_not_exist_cannot_be_frozen(tiny_tokenizer):
    from opengte.models.building import new_backbone

    config = {"model_type": "gte", "vocab_size": 64, "hidden_size": 32, "num_hidden_layers": 1,
              "num_attention_heads": 2, "intermediate_size": 32, "pad_token_id": 0}  # fmt: skip
    encoder = Encoder(new_backbone(config, seed=0), tiny_tokenizer)
    with pytest.raises(ConfigError, match="the backbone has no positions to freeze"):
        freeze(encoder, positions=True)
    assert freeze(encoder, words=True) == ["backbone.model.embeddings.word_embeddings.weight"]


# -- vocabulary ---------------------------------------------------------------------------------


def test_sizes_are_padded_up():
    assert [padded_size(n) for n in (1, 64, 65, 30522)] == [64, 64, 128, 30528]
    with pytest.raises(ConfigError, match="multiple must be >= 1, got 0"):
        padded_size(5, multiple=0)


def test_new_rows_are_the_mean_and_old_vectors_stay(tiny_encoder, words):
    texts = words([5, 20])
    before = tiny_encoder.encode(texts)
    average = tiny_encoder.backbone.word_embedding.weight.mean(0).detach()
    assert resize_vocabulary(tiny_encoder.backbone, 70) == 128
    assert tiny_encoder.backbone.vocab_size == 128
    assert tiny_encoder.backbone.config["vocab_size"] == 128
    assert torch.allclose(tiny_encoder.backbone.word_embedding.weight[64:], average.expand(64, -1))
    assert np.allclose(tiny_encoder.encode(texts), before, atol=1e-6)


def test_rows_are_never_taken_away(tiny_encoder):
    with pytest.raises(ConfigError, match="the vocabulary has 64 rows, 40 are fewer"):
        resize_vocabulary(tiny_encoder.backbone, 40, multiple=1)


# -- planning -----------------------------------------------------------------------------------


def test_shapes_on_meta_are_those_of_a_real_model(tiny_bert, bert_config):
    real = tiny_bert.to_checkpoint(tiny_bert.state_dict())
    assert weight_shapes(bert_config) == {name: tuple(v.shape) for name, v in real.items()}


def test_seven_billion_parameters_take_no_memory():
    config = {"model_type": "qwen2", "hidden_size": 3584, "num_hidden_layers": 28,
              "num_attention_heads": 28, "num_key_value_heads": 4, "intermediate_size": 18944,
              "vocab_size": 151_646, "max_position_embeddings": 131_072}  # fmt: skip
    assert count_parameters(config) == 7_069_121_024


def test_published_parameter_counts():
    base = {"model_type": "bert", "hidden_size": 768, "num_hidden_layers": 12,
            "num_attention_heads": 12, "intermediate_size": 3072, "vocab_size": 30_522,
            "max_position_embeddings": 512, "type_vocab_size": 2}  # fmt: skip
    assert count_parameters(base) == 108_891_648  # bert-base-uncased without its pooler


def test_unknown_architectures_are_refused():
    with pytest.raises(ModelFolderError, match="unknown architecture 'rwkv'"):
        weight_shapes({"model_type": "rwkv"})


# -- classifier ---------------------------------------------------------------------------------


def test_a_pair_is_classified_from_both_and_their_difference():
    torch.manual_seed(0)
    head = EmbeddingClassifier(4, ["entailment", "neutral", "contradiction"], inputs="pair")
    u, v = torch.randn(5, 4), torch.randn(5, 4)
    expected = torch.cat([u, v, (u - v).abs()], 1) @ head.linear.weight.T + head.linear.bias
    assert torch.allclose(head(u, v), expected, atol=1e-6)
    probabilities = head.probabilities(u.numpy(), v.numpy())
    assert np.allclose(probabilities.sum(1), 1.0, atol=1e-6)


def test_a_classifier_comes_back_from_its_folder(tmp_path):
    head = EmbeddingClassifier(4, ["a", "b"])
    head.save(tmp_path / "c")
    again = EmbeddingClassifier.load(tmp_path / "c")
    assert (again.labels, again.inputs) == (("a", "b"), "text")
    x = torch.randn(3, 4)
    assert torch.equal(head(x), again(x))


def test_classifiers_refuse_what_does_not_fit(tmp_path):
    with pytest.raises(ConfigError, match=r"two or more distinct names, got \['a', 'a'\]"):
        EmbeddingClassifier(4, ["a", "a"])
    single = EmbeddingClassifier(4, ["a", "b"])
    with pytest.raises(ConfigError, match="a classifier of a text needs one embedding of each"):
        single(torch.randn(1, 4), torch.randn(1, 4))
    single.save(tmp_path / "c")
    EmbeddingClassifier(4, ["a", "b", "c"]).save(tmp_path / "d")
    (tmp_path / "c/classifier.safetensors").write_bytes(
        (tmp_path / "d/classifier.safetensors").read_bytes()
    )
    with pytest.raises(ModelFolderError, match=r"safetensors does not fit classifier.json"):
        EmbeddingClassifier.load(tmp_path / "c")
    (tmp_path / "c/classifier.safetensors").unlink()
    with pytest.raises(ModelFolderError, match=r"classifier.safetensors is missing"):
        EmbeddingClassifier.load(tmp_path / "c")


# -- adapters -----------------------------------------------------------------------------------


def step(encoder, words):
    parameters = [p for p in encoder.parameters() if p.requires_grad]
    optimizer = torch.optim.SGD(parameters, lr=0.5)
    encoder.train()
    packed = encoder.pack(encoder.tokenize(words([5, 9])))
    (encoder(packed) * torch.randn(2, 32)).sum().backward()
    optimizer.step()
    encoder.eval()


def test_fresh_adapters_change_nothing_and_alone_learn(tiny_encoder, words):
    texts = words([5, 20])
    before = tiny_encoder.encode(texts)
    names = add_lora(tiny_encoder, LoraSettings(rank=3, dropout=0.0))
    assert len(names) == 2 * 4
    assert np.allclose(tiny_encoder.encode(texts), before, atol=1e-6)
    assert all("lora_" in name for name in learns(tiny_encoder))
    assert len(tiny_encoder.space.revision) == 64


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_merged_adapters_give_the_vectors_they_gave(tiny_encoder, words, dtype):
    texts = words([5, 20])
    tiny_encoder.compute_dtype = dtype
    before = tiny_encoder.encode(texts)
    add_lora(tiny_encoder, LoraSettings(rank=3, dropout=0.0))
    step(tiny_encoder, words)
    step(tiny_encoder, words)
    learned = tiny_encoder.encode(texts)
    assert not np.allclose(learned, before, atol=1e-3)
    assert merge_lora(tiny_encoder) == 8
    tolerance = 1e-5 if dtype == "float32" else 0.03
    assert np.allclose(tiny_encoder.encode(texts), learned, atol=tolerance)
    assert not any("lora" in name for name in tiny_encoder.state_dict())
    assert len(learns(tiny_encoder)) == len(list(tiny_encoder.parameters()))
    assert merge_lora(tiny_encoder) == 0


def test_chosen_layers_alone_are_adapted(tiny_encoder):
    names = add_lora(tiny_encoder, LoraSettings(rank=2, targets=("qkv",)))
    assert names == [f"backbone.layers.{i}.attention.qkv" for i in range(2)]


def test_adapters_follow_their_seed_alone(tiny_encoder):
    torch.manual_seed(1)
    state = torch.random.get_rng_state()
    other = copy.deepcopy(tiny_encoder)
    add_lora(tiny_encoder, LoraSettings(), seed=5)
    assert torch.equal(torch.random.get_rng_state(), state)
    torch.manual_seed(2)
    add_lora(other, LoraSettings(), seed=5)
    for a, b in zip(tiny_encoder.parameters(), other.parameters(), strict=True):
        assert torch.equal(a, b)


def test_adapters_refuse_unknown_layers_and_sizes(tiny_encoder):
    with pytest.raises(ConfigError, match="no linear layer of the backbone is named q_proj"):
        add_lora(tiny_encoder, LoraSettings(targets=("q_proj",)))
    with pytest.raises(ConfigError, match="rank must be >= 1, got 0"):
        LoraSettings(rank=0)
    with pytest.raises(ConfigError, match=r"dropout must be in \[0, 1\), got 1.0"):
        LoraSettings(dropout=1.0)
