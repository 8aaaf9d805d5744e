"""Cross-encoders and yes-or-no rerankers against transformers, done by hand."""

from __future__ import annotations

import copy
import json

import numpy as np
import pytest
import tokenizers
import torch
from safetensors.torch import load_file, save_file
from tokenizers import models as tokenizer_models
from tokenizers import pre_tokenizers

from opengte.errors import ConfigError, ModelFolderError
from opengte.models.building import build_backbone, new_backbone
from opengte.models.cross_encoder import CrossEncoder
from opengte.models.cross_encoder_folder import load_cross_encoder, save_cross_encoder
from opengte.models.packing import pack
from opengte.models.reranker import YesNoPrompt, YesNoReranker
from opengte.models.reranker_folder import load_yes_no_reranker, save_yes_no_reranker
from opengte.models.score_head import ScoreHead
from opengte.text.tokenizer import Tokenizer

transformers = pytest.importorskip("transformers")
KINDS = {"bert": "bert", "roberta": "roberta", "xlm-roberta": "roberta", "gte": "bert",
         "modernbert": "modernbert"}  # fmt: skip


@pytest.fixture
def pairs(words):
    return list(zip(words([3, 8, 1, 30]), words([9, 40, 2, 3], seed=1), strict=True))


def cross_encoder(tiny, name, tokenizer, *, labels=1, kind=None, max_tokens=40):
    config = tiny.CONFIGS[name]
    model = tiny.transformers_model(config)
    backbone = build_backbone(config, {n: v.clone() for n, v in model.state_dict().items()})
    torch.manual_seed(3)
    head = ScoreHead(32, labels, kind=kind or KINDS[name])
    return CrossEncoder(backbone, head, tokenizer, max_tokens=max_tokens, compute_dtype="float32")


@pytest.mark.parametrize("labels", [1, 3])
@pytest.mark.parametrize("name", list(KINDS))
def test_transformers_gives_the_same_logits(tiny, name, labels, tiny_tokenizer, pairs, tmp_path):
    ours = cross_encoder(tiny, name, tiny_tokenizer, labels=labels)
    save_cross_encoder(ours, tmp_path / "m")
    tokenizer = transformers.AutoTokenizer.from_pretrained(tmp_path / "m")
    model, report = transformers.AutoModelForSequenceClassification.from_pretrained(
        tmp_path / "m", output_loading_info=True
    )
    assert not report["missing_keys"]
    assert not report["unexpected_keys"]
    inputs = tokenizer(pairs, padding=True, truncation=True, max_length=40, return_tensors="pt")
    if name != "bert":
        del inputs["token_type_ids"]  # theirs have one type, or take none
    with torch.no_grad():
        expected = model.eval()(**inputs).logits.numpy()
    assert np.abs(ours.logits(pairs) - expected).max() < 1e-5


@pytest.mark.parametrize("name", [*KINDS, "linear"])
def test_a_written_folder_gives_back_the_same_scores(tiny, name, tiny_tokenizer, pairs, tmp_path):
    kind = "linear" if name == "linear" else None
    model = cross_encoder(tiny, "bert" if kind else name, tiny_tokenizer, kind=kind)
    save_cross_encoder(model, tmp_path / "m")
    again = load_cross_encoder(tmp_path / "m", dtype="float32")
    assert (again.max_tokens, again.head.kind) == (40, model.head.kind)
    assert np.abs(again.logits(pairs) - model.logits(pairs)).max() < 1e-6


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
def test_sentence_transformers_gives_the_same_scores(tiny, tiny_tokenizer, pairs, tmp_path):
    library = pytest.importorskip("sentence_transformers")
    ours = cross_encoder(tiny, "bert", tiny_tokenizer)
    save_cross_encoder(ours, tmp_path / "m")
    theirs = library.CrossEncoder(str(tmp_path / "m"), device="cpu", max_length=40)
    query, documents = pairs[0][0], [document for _, document in pairs]
    expected = theirs.predict([(query, document) for document in documents])
    assert np.abs(ours.score(query, documents) - expected).max() < 1e-5


def test_the_linear_head_is_the_papers_formula(tiny, tiny_tokenizer, pairs):
    model = cross_encoder(tiny, "gte", tiny_tokenizer, kind="linear")
    packed = pack(model.tokenize(pairs))
    with torch.no_grad():
        first = model.backbone(packed)[packed.boundaries[:-1].long()]
        expected = first @ model.head.out.weight[0] + model.head.out.bias[0]
        assert torch.allclose(model(packed)[:, 0], expected, atol=1e-6)


def test_scores_of_several_labels_are_the_last_ones_log_probability(tiny, tiny_tokenizer, pairs):
    model = cross_encoder(tiny, "bert", tiny_tokenizer, labels=3)
    logits = torch.from_numpy(model.logits([(pairs[0][0], d) for _, d in pairs]))
    expected = logits.log_softmax(-1)[:, -1].numpy()
    assert np.allclose(model.score(pairs[0][0], [d for _, d in pairs]), expected, atol=1e-6)


@pytest.mark.parametrize("limit", [7, 9, 20, 33])
def test_pairs_are_cut_as_transformers_cuts_them(limit, tiny_tokenizer, words, tmp_path):
    tiny_tokenizer.save(tmp_path)
    theirs = transformers.AutoTokenizer.from_pretrained(tmp_path)
    sizes = [(1, 40), (40, 1), (3, 3), (20, 21), (21, 20), (9, 30), (16, 15)]
    for first, second in sizes:
        pair = (*words([first]), *words([second], seed=1))
        (ours,) = tiny_tokenizer.encode_pairs([pair], max_tokens=limit)
        expected = theirs(*pair, truncation="longest_first", max_length=limit)
        assert ours.ids.tolist() == expected["input_ids"], (first, second)
        assert ours.truncated == (first + second + 3 > limit)
        types = [0] * ours.second_start + [1] * (len(ours) - ours.second_start)
        assert types == expected["token_type_ids"]


def test_the_real_tokenizer_pairs_as_transformers_does(minilm_folder):
    theirs = transformers.AutoTokenizer.from_pretrained(minilm_folder)
    ours = Tokenizer.from_folder(minilm_folder)
    pair = ("what is a monad?", "A monad is a monoid in the category of endofunctors. " * 9)
    (text,) = ours.encode_pairs([pair], max_tokens=64)
    expected = theirs(*pair, truncation="longest_first", max_length=64)["input_ids"]
    assert text.ids.tolist() == expected


def test_training_reaches_the_head_and_the_token_types(tiny, tiny_tokenizer, pairs):
    model = cross_encoder(tiny, "bert", tiny_tokenizer).train()
    model(pack(model.tokenize(pairs))).sum().backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in model.head.parameters())
    assert (model.backbone.embeddings.token_type.weight.grad.abs().sum(1) > 0).all()


def test_cross_encoders_refuse_what_they_cannot_be(tiny, tiny_tokenizer, tmp_path):
    with pytest.raises(ConfigError, match="at most the model's 96 positions, got 97"):
        cross_encoder(tiny, "bert", tiny_tokenizer, max_tokens=97)
    with pytest.raises(ConfigError, match=r"head must be one of linear, bert, .*, got 'mlp'"):
        ScoreHead(4, 1, kind="mlp")
    with pytest.raises(ConfigError, match="max_tokens 4 leaves no room for a pair of texts"):
        tiny_tokenizer.encode_pairs([("w1", "w2")], max_tokens=4)
    model = cross_encoder(tiny, "bert", tiny_tokenizer)
    save_cross_encoder(model, tmp_path / "m")
    (tmp_path / "m" / "opengte.json").unlink()
    file = tmp_path / "m" / "model.safetensors"
    tensors = load_file(file)
    save_file({n: v for n, v in tensors.items() if n != "classifier.bias"}, file)
    with pytest.raises(ModelFolderError, match=r"weights of the classifier do not fit: out\.bias"):
        load_cross_encoder(tmp_path / "m")
    save_file({n: v for n, v in tensors.items() if not n.startswith("classifier")}, file)
    with pytest.raises(ModelFolderError, match="no classifier among its weights"):
        load_cross_encoder(tmp_path / "m")


# -- yes or no ----------------------------------------------------------------------------------

PROMPT = YesNoPrompt(
    before="<s> judge\n", pair="{instruction} q {query} d {document}", after="\nend"
)
WORDS = ["<s>", "judge", "end", "q", "d", "yes", "no", "task", *(f"w{i}" for i in range(50)), "x"]


@pytest.fixture(scope="module")
def chat_tokenizer():
    backend = tokenizers.Tokenizer(
        tokenizer_models.WordLevel({w: i for i, w in enumerate(WORDS)}, unk_token="x")
    )
    backend.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return Tokenizer(backend)


@pytest.fixture(params=[True, False], ids=["tied", "untied"])
def language_model(request, tiny):
    config = {**tiny.CONFIGS["qwen3"], "tie_word_embeddings": request.param}
    torch.manual_seed(0)
    made = transformers.Qwen3Config.from_dict(copy.deepcopy(config))
    model = transformers.Qwen3ForCausalLM._from_config(made, attn_implementation="eager").eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.2)
    return model


@pytest.fixture
def chat_folder(language_model, chat_tokenizer, tmp_path):
    language_model.save_pretrained(tmp_path / "m")
    chat_tokenizer.save(tmp_path / "m")
    return tmp_path / "m"


def by_hand(model, tokenizer, query, documents, instruction):
    """As the model card does it: left padding, two logits of the last position, softmax."""
    texts = [
        PROMPT.before
        + PROMPT.pair.format(instruction=instruction, query=query, document=document)
        + PROMPT.after
        for document in documents
    ]
    rows = [tokenizer.backend.encode(text).ids for text in texts]
    longest = max(map(len, rows))
    ids = torch.tensor([[0] * (longest - len(row)) + row for row in rows])
    mask = torch.tensor([[0] * (longest - len(row)) + [1] * len(row) for row in rows])
    with torch.no_grad():
        logits = model(input_ids=ids, attention_mask=mask, use_cache=False).logits[:, -1]
    yes, no = WORDS.index("yes"), WORDS.index("no")
    both = torch.stack([logits[:, no], logits[:, yes]], dim=1)
    return torch.log_softmax(both, dim=1)[:, 1].exp().numpy()


def test_yes_no_scores_equal_the_language_models(
    language_model, chat_folder, chat_tokenizer, words
):
    ours = load_yes_no_reranker(chat_folder, prompt=PROMPT, instruction="task", dtype="float32")
    query, documents = "w3 w4", [text.replace("w5", "w4") for text in words([3, 1, 20, 7])]
    documents = [" ".join(w for w in d.split() if w in WORDS) for d in documents]
    expected = by_hand(language_model, chat_tokenizer, query, documents, "task")
    assert np.abs(ours.score(query, documents) - expected).max() < 1e-5
    assert ((expected > 0) & (expected < 1)).all()


def test_a_saved_reranker_is_a_language_model_again(
    language_model, chat_folder, tmp_path, chat_tokenizer
):
    ours = load_yes_no_reranker(chat_folder, prompt=PROMPT, instruction="task", dtype="float32")
    ours.train()
    packed = pack(ours.tokenize([("w1", "w2"), ("w3", "w4 w5")]))
    loss = torch.nn.functional.cross_entropy(ours(packed), torch.tensor([1, 0]))
    loss.backward()
    torch.optim.SGD(ours.parameters(), lr=0.5).step()
    scores = ours.score("w1", ["w2", "w9 w8"])
    save_yes_no_reranker(ours, tmp_path / "saved")
    again = load_yes_no_reranker(
        tmp_path / "saved", prompt=PROMPT, instruction="task", dtype="float32"
    )
    assert np.abs(again.score("w1", ["w2", "w9 w8"]) - scores).max() < 1e-6
    model, report = transformers.AutoModelForCausalLM.from_pretrained(
        tmp_path / "saved", output_loading_info=True
    )
    assert not report["missing_keys"]
    expected = by_hand(model.eval(), chat_tokenizer, "w1", ["w2", "w9 w8"], "task")
    assert np.abs(scores - expected).max() < 1e-5


def test_the_chat_is_never_cut(tiny, chat_tokenizer):
    backbone = new_backbone(tiny.CONFIGS["qwen3"], seed=0)
    reranker = YesNoReranker(backbone, chat_tokenizer, prompt=PROMPT, max_tokens=12)
    (text,) = reranker.tokenize([("w1", "w2 " * 50)])
    assert len(text) == 12
    assert text.ids[:2].tolist() == [0, 1]
    assert text.ids[-1] == WORDS.index("end")
    assert text.truncated


def test_the_default_prompt_is_the_released_one():
    prompt = YesNoPrompt()
    assert prompt.before.startswith("<|im_start|>system\nJudge whether the Document meets the")
    assert prompt.before.endswith('can only be "yes" or "no".<|im_end|>\n<|im_start|>user\n')
    assert prompt.pair == "<Instruct>: {instruction}\n<Query>: {query}\n<Document>: {document}"
    assert prompt.after == "<|im_end|>\n<|im_start|>assistant\n<think>\n\n</think>\n\n"


def test_rerankers_refuse_what_they_cannot_be(tiny, chat_tokenizer, chat_folder, language_model):
    backbone = new_backbone(tiny.CONFIGS["qwen3"], seed=0)
    with pytest.raises(ConfigError, match="the answer 'yes no' must be one token, it is 2"):
        YesNoReranker(backbone, chat_tokenizer, prompt=YesNoPrompt(yes="yes no"))
    with pytest.raises(ConfigError, match="max_tokens 3 leaves no room"):
        YesNoReranker(backbone, chat_tokenizer, prompt=PROMPT, max_tokens=3)
    config = json.loads((chat_folder / "config.json").read_text())
    (chat_folder / "config.json").write_text(json.dumps({**config, "is_causal": False}))
    with pytest.raises(ModelFolderError, match="needs a causal decoder, found 'qwen3'"):
        load_yes_no_reranker(chat_folder)
    if not language_model.config.tie_word_embeddings:
        (chat_folder / "config.json").write_text(json.dumps(config))
        tensors = load_file(chat_folder / "model.safetensors")
        tensors.pop("lm_head.weight")
        save_file(tensors, chat_folder / "model.safetensors")
        with pytest.raises(ModelFolderError, match=r"weights are missing: lm_head.weight"):
            load_yes_no_reranker(chat_folder)
