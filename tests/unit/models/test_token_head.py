"""Heads of language models: transformers' logits, kept between stages; RetroMAE's decoder."""

from __future__ import annotations

import pytest
import torch

from opengte.errors import ModelFolderError
from opengte.models.building import build_backbone
from opengte.models.packing import pack
from opengte.models.retromae import RetroMaeDecoder
from opengte.models.token_head import TokenHead, open_token_head, save_token_head


@pytest.mark.parametrize("model_type", ["bert", "roberta"])
def test_released_heads_give_transformers_logits(model_type, bert_config, random_texts, tmp_path):
    transformers = pytest.importorskip("transformers")
    config = {**bert_config, "model_type": model_type, "layer_norm_eps": 1e-12}
    names = {"bert": "BertForMaskedLM", "roberta": "RobertaForMaskedLM"}
    made = {"bert": transformers.BertConfig, "roberta": transformers.RobertaConfig}[model_type]
    torch.manual_seed(0)
    model = getattr(transformers, names[model_type])(made.from_dict(config)).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn(parameter.shape) * 0.1)
    tensors = {name: value.clone() for name, value in model.state_dict().items()}
    backbone = build_backbone(config, dict(tensors))
    backbone.eval()  # type: ignore[attr-defined]
    head = open_token_head(tmp_path, backbone, tensors)
    (text,) = random_texts([9])
    with torch.no_grad():
        expected = model(torch.from_numpy(text.ids.astype("int64"))[None]).logits[0]
        found = head(backbone(pack([text])), backbone.word_embedding.weight)
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-4)


def test_a_head_is_kept_beside_its_model(tiny_bert, tmp_path):
    torch.manual_seed(1)
    head = TokenHead(32, 64)
    save_token_head(head, tmp_path)
    again = open_token_head(tmp_path, tiny_bert, {})
    torch.testing.assert_close(again.dense.weight, head.dense.weight)
    save_token_head(TokenHead(16, 64), tmp_path)
    with pytest.raises(ModelFolderError, match=r"token_head.safetensors does not fit the model"):
        open_token_head(tmp_path, tiny_bert, {})


def test_a_place_of_the_decoder_does_not_depend_on_words_it_may_not_see():
    torch.manual_seed(0)
    decoder = RetroMaeDecoder(16, 2, 32, 20).eval()
    words, embedding = torch.randn(2, 6, 16), torch.randn(2, 16)
    visible = torch.rand(2, 6, 6) < 0.5
    states = decoder(embedding, words, visible)
    hidden = (~visible[0, 4]).nonzero().flatten()
    changed = words.clone()
    changed[0, hidden[hidden != 0]] += 1.0
    torch.testing.assert_close(decoder(embedding, changed, visible)[0, 4], states[0, 4])
    other = decoder(embedding + 0.5, words, visible)
    assert (other[0, 4] - states[0, 4]).abs().max() > 1e-3
