from __future__ import annotations

import copy

import pytest
import torch

from opengte.errors import ModelFolderError
from opengte.models.bert import PackedBert, initialise
from opengte.models.bert_checkpoint import load_packed_bert
from opengte.models.bert_names import checkpoint_names
from opengte.models.packing import pack

LENGTHS = [5, 17, 1, 23, 16, 17]


def test_every_parameter_has_names_in_a_checkpoint(tiny_bert):
    names = [n for own in tiny_bert.state_dict() for n in checkpoint_names(own)]
    assert len(names) == len(set(names))
    theirs = tiny_bert.to_checkpoint(tiny_bert.state_dict())
    assert set(theirs) == set(names)
    assert sum(v.numel() for v in theirs.values()) == sum(p.numel() for p in tiny_bert.parameters())


def test_norms_and_biases_are_named_as_such(tiny_bert):
    for name, parameter in tiny_bert.named_parameters():
        decays = ".norm." not in name and not name.endswith(".bias")
        assert decays == (parameter.ndim == 2), name


@pytest.mark.parametrize("prefix", ["", "bert.", "roberta."])
def test_loading_undoes_saving_under_any_prefix(tiny_bert, bert_config, prefix):
    tensors = tiny_bert.to_checkpoint(tiny_bert.state_dict())
    tensors = {prefix + name: value for name, value in tensors.items()}
    again = load_packed_bert(bert_config, tensors, dtype=torch.float32)
    for name, value in tiny_bert.state_dict().items():
        assert torch.equal(again.state_dict()[name], value)


def test_names_of_2018_are_understood(tiny_bert, bert_config):
    tensors = {
        name.replace("LayerNorm.weight", "LayerNorm.gamma").replace(
            "LayerNorm.bias", "LayerNorm.beta"
        ): value
        for name, value in tiny_bert.to_checkpoint(tiny_bert.state_dict()).items()
    }
    load_packed_bert(bert_config, tensors, dtype=torch.float32)


def test_unused_parts_are_passed_over_and_the_pooler_carried(tiny_bert, bert_config):
    tensors = dict(tiny_bert.to_checkpoint(tiny_bert.state_dict()))
    tensors["pooler.dense.weight"] = torch.ones(32, 32)
    tensors["cls.predictions.bias"] = torch.ones(64)
    tensors["embeddings.position_ids"] = torch.arange(80)
    again = load_packed_bert(bert_config, tensors, dtype=torch.float32)
    assert set(again.carried) == {"pooler.dense.weight"}


def test_a_missing_weight_is_named(tiny_bert, bert_config):
    tensors = dict(tiny_bert.to_checkpoint(tiny_bert.state_dict()))
    del tensors["encoder.layer.1.attention.self.key.bias"]
    with pytest.raises(ModelFolderError, match=r"missing: encoder.layer.1.attention.self.key.bias"):
        load_packed_bert(bert_config, tensors, dtype=torch.float32)


def test_an_unknown_weight_is_named(tiny_bert, bert_config):
    tensors = dict(tiny_bert.to_checkpoint(tiny_bert.state_dict()))
    tensors["encoder.layer.2.output.dense.bias"] = torch.ones(32)
    with pytest.raises(ModelFolderError, match=r"does not have: encoder.layer.2.output.dense.bias"):
        load_packed_bert(bert_config, tensors, dtype=torch.float32)


def test_a_weight_of_another_shape_is_named(tiny_bert, bert_config):
    tensors = tiny_bert.to_checkpoint(tiny_bert.state_dict())
    with pytest.raises(ModelFolderError, match=r"has shape \(80, 32\), config.json asks for \(70,"):
        load_packed_bert(
            {**bert_config, "max_position_embeddings": 70}, tensors, dtype=torch.float32
        )


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"position_embedding_type": "relative_key"}, "position_embedding_type 'relative_key'"),
        ({"is_decoder": True}, "is_decoder or add_cross_attention is not an encoder"),
        ({"hidden_act": "relu6"}, "hidden_act 'relu6' is not one of gelu"),
    ],
)
def test_what_the_encoder_does_not_have_is_refused(bert_config, change, match):
    with pytest.raises(ModelFolderError, match=match):
        PackedBert({**bert_config, **change})


def test_initial_weights_follow_the_seed_and_berts_spread(bert_config):
    first, second = PackedBert(bert_config), PackedBert(bert_config)
    initialise(first, seed=3)
    initialise(second, seed=3)
    for a, b in zip(first.parameters(), second.parameters(), strict=True):
        assert torch.equal(a, b)
    assert first.layers[0].attention.qkv.weight.std().item() == pytest.approx(0.02, rel=0.1)
    assert (first.layers[1].feed_forward.norm.weight == 1).all()
    assert (first.embeddings.word.weight[0] == 0).all()


def test_dropout_changes_training_alone_and_follows_the_seed(tiny_bert, random_texts):
    packed = pack(random_texts(LENGTHS))

    def run():
        torch.manual_seed(5)
        with torch.no_grad():
            return tiny_bert(packed)

    tiny_bert.eval()
    plain = run()
    tiny_bert.train()
    dropped = run()
    assert not torch.allclose(plain, dropped)
    assert torch.equal(dropped, run())
    tiny_bert.set_dropout(0.0, 0.0)
    assert torch.allclose(plain, run(), atol=1e-6)


def test_recomputed_layers_drop_the_same(tiny_bert, random_texts):
    packed = pack(random_texts(LENGTHS))
    tiny_bert.train()

    def gradients():
        torch.manual_seed(5)
        return torch.autograd.grad(tiny_bert(packed).square().sum(), list(tiny_bert.parameters()))

    plain = gradients()
    tiny_bert.gradient_checkpointing = True
    for a, b in zip(plain, gradients(), strict=True):
        assert torch.allclose(a, b, rtol=1e-4, atol=1e-3)


def test_bfloat16_gradients_arrive_in_float32_and_agree(tiny_bert, random_texts):
    packed = pack(random_texts(LENGTHS))
    narrow = copy.deepcopy(tiny_bert)
    narrow.compute_dtype = torch.bfloat16
    weights = torch.randn(sum(LENGTHS), 32)
    for model in (tiny_bert.eval(), narrow.eval()):
        (model(packed).float() * weights).sum().backward()
    for (name, a), b in zip(tiny_bert.named_parameters(), narrow.parameters(), strict=True):
        assert b.grad.dtype == torch.float32
        if a.grad.norm() > 1e-3:
            close = torch.cosine_similarity(a.grad.flatten(), b.grad.flatten(), dim=0)
            assert close > 0.98, name
