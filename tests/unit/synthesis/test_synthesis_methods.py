"""Each method asks what its paper asks, and every row says how it was made."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from opengte.data.readers import read_pairs
from opengte.errors import ConfigError, DataError
from opengte.llm import AnswerError
from opengte.records import Document
from opengte.runtime.hashed import HashEncoder
from opengte.synthesis.config import (
    BrainstormConfig,
    CraftedConfig,
    GplConfig,
    PersonaConfig,
    SynthesisConfig,
)
from opengte.synthesis.drafts import shown_text
from opengte.synthesis.prompts import load_lines, load_prompt
from opengte.synthesis.run import synthesize

DOCUMENTS = [
    Document(
        id=f"d{i}",
        text=f"Topic{i} begins here. It explains how part{i} works with $dollar and {{braces}}.",
        title=f"Title{i}",
        group=f"g{i}",
        kind="note",
        origin=f"notes.md:{i}",
    )
    for i in range(6)
]


class FakeChat:
    """Answers each schema with something that fits; remembers what it was asked."""

    model = "fake"

    def __init__(self) -> None:
        self.asked: list[str] = []

    def complete(
        self,
        messages: Sequence[Mapping[str, str]],
        *,
        max_tokens: int | None = None,
        temperature: float | None = None,
        json_schema: Mapping[str, Any] | None = None,
    ) -> str:
        self.asked.append(messages[-1]["content"])
        assert json_schema is not None
        return json.dumps(self.answer(set(json_schema["properties"]), json_schema))

    def answer(self, keys: set[str], schema: Mapping[str, Any]) -> Mapping[str, Any]:
        number = len(self.asked)
        if keys == {"tasks"}:
            return {"tasks": [f"Given a sign {number}{i}, find the note" for i in range(20)]}
        if keys == {"queries"}:
            return {"queries": [f"want {number} a", f"seek {number} b", f"find {number} c"]}
        if keys == {"person", "question_type", "difficulty"}:
            kinds = schema["properties"]
            return {
                "person": kinds["person"]["maximum"],
                "question_type": "summary",
                "difficulty": "phd",
            }
        texts = {
            "query": f"ask {number}",
            "positive": f"good {number}",
            "hard_negative": f"bad {number}",
        }
        return {key: texts[key] for key in keys}


def made_rows(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "pairs.jsonl").read_text().splitlines()]


def test_gpl_asks_for_several_queries_of_each_document(tmp_path: Path) -> None:
    chat = FakeChat()
    config = SynthesisConfig(
        method=GplConfig(queries_per_document=2), languages=("Finnish",), num_workers=1
    )
    result = synthesize(DOCUMENTS, chat, config, folder=tmp_path)
    assert len(chat.asked) == 6
    assert "Write 2 different queries" in chat.asked[0]
    assert "Finnish" in chat.asked[0]
    assert DOCUMENTS[0].full_text in chat.asked[0]
    assert [pair.positive for pair in result.pairs] == [
        document.full_text for document in DOCUMENTS for _ in range(2)
    ]
    pair = result.pairs[0]
    assert (pair.query, pair.group, pair.kind, pair.origin) == (
        "want 1 a",
        "g0",
        "synthetic-note",
        "notes.md:0",
    )


def test_persona_chooses_first_and_asks_in_that_voice(tmp_path: Path) -> None:
    chat = FakeChat()
    config = SynthesisConfig(
        method=PersonaConfig(queries_per_document=2, num_people=3, lengths=(17,)), num_workers=1
    )
    result = synthesize(DOCUMENTS[:2], chat, config, folder=tmp_path)
    assert len(chat.asked) == 8
    choose, ask = chat.asked[:2]
    people = re.findall(r"^\d\. (.*)$", choose, re.MULTILINE)
    assert len(people) == 3
    assert set(people) <= set(load_lines("people"))
    assert f"The person: {people[2]}" in ask
    for words in ("asks for an overview", "level: phd", "about 17 words", "language: English"):
        assert words in ask
    assert len(result.pairs) == 4
    settings = made_rows(tmp_path)[0]["made"]["settings"]
    assert settings == {
        "person": people[2],
        "question_type": "summary",
        "difficulty": "phd",
        "length": 17,
        "language": "English",
    }


def test_persona_refuses_a_choice_that_was_not_offered(tmp_path: Path) -> None:
    schemas = []

    class Remembering(FakeChat):
        def answer(self, keys: set[str], schema: Mapping[str, Any]) -> Mapping[str, Any]:
            schemas.append(schema)
            return super().answer(keys, schema)

    synthesize(
        DOCUMENTS[:1],
        Remembering(),
        SynthesisConfig(method=PersonaConfig(num_people=4)),
        folder=tmp_path,
    )
    assert schemas[0]["properties"]["person"]["maximum"] == 4
    assert schemas[0]["properties"]["question_type"]["enum"] == list(PersonaConfig().question_types)


def test_crafted_asks_once_a_task_and_brings_a_near_miss(tmp_path: Path) -> None:
    chat = FakeChat()
    config = SynthesisConfig(method=CraftedConfig(tasks=("claim", "code")), num_workers=1)
    result = synthesize(DOCUMENTS[:3], chat, config, folder=tmp_path)
    assert len(chat.asked) == 6
    assert "a claim of one sentence" in chat.asked[0]
    assert "piece of code" in chat.asked[1]
    assert all(len(pair.negatives) == 1 for pair in result.pairs)
    assert [row["made"]["settings"]["task"] for row in made_rows(tmp_path)[:2]] == ["claim", "code"]


def test_brainstorm_invents_tasks_from_a_taste_and_then_grounded_examples(tmp_path: Path) -> None:
    chat = FakeChat()
    method = BrainstormConfig(num_tasks=30, taste=2)
    result = synthesize(
        DOCUMENTS, chat, SynthesisConfig(method=method, num_workers=1), folder=tmp_path
    )
    tasks, examples = chat.asked[:2], chat.asked[2:]
    assert len(examples) == 6
    assert all(sum(d.full_text in task for d in DOCUMENTS) == 2 for task in tasks)
    assert "Invent 20 different" in tasks[0]
    assert all("Given a sign" in example for example in examples)
    assert [pair.positive for pair in result.pairs] == [d.full_text for d in DOCUMENTS]
    assert all(len(pair.negatives) == 1 for pair in result.pairs)
    assert set(made_rows(tmp_path)[0]["made"]["prompts"]) == {
        "brainstorm_tasks_short_long",
        "brainstorm_grounded",
    }


@pytest.mark.parametrize("kind", ["short_long", "long_short", "short_short", "long_long"])
def test_brainstorm_needs_no_documents(tmp_path: Path, kind: Any) -> None:
    chat = FakeChat()
    method = BrainstormConfig(example_kinds=(kind,), num_tasks=5, rows_per_task=2)
    config = SynthesisConfig(method=method, num_workers=1)
    result = synthesize([], chat, config, folder=tmp_path)
    assert len(chat.asked) == 1 + 10
    assert "collection that holds" not in chat.asked[0]
    assert result.pairs[0].positive.startswith("good")
    assert result.pairs[0].negatives[0].startswith("bad")
    assert len({row["made"]["settings"]["task"] for row in made_rows(tmp_path)}) == 5


def test_sts_and_bitext_draw_their_subjects(tmp_path: Path) -> None:
    chat = FakeChat()
    method = BrainstormConfig(example_kinds=("sts", "bitext"), num_tasks=4, rows_per_task=3)
    config = SynthesisConfig(method=method, languages=("German", "Czech"), num_workers=1)
    synthesize([], chat, config, folder=tmp_path)
    assert len(chat.asked) == 24, "no call for tasks"
    settings = [row["made"]["settings"] for row in made_rows(tmp_path)]
    assert {s["subject"] for s in settings} <= set(load_lines("subjects"))
    bitext = [s for s in settings if s["example_kind"] == "bitext"]
    assert all({s["language"], s["other_language"]} == {"German", "Czech"} for s in bitext)
    with pytest.raises(ConfigError, match="bitext needs at least two languages"):
        synthesize([], chat, SynthesisConfig(method=method), folder=tmp_path / "x")


def test_every_row_names_model_method_and_prompts_and_reads_back(tmp_path: Path) -> None:
    result = synthesize(DOCUMENTS, FakeChat(), folder=tmp_path)
    for row in made_rows(tmp_path):
        assert row["made"]["model"] == "fake"
        assert row["made"]["method"] == "gpl"
        for name, fingerprint in row["made"]["prompts"].items():
            kept = tmp_path / "prompts" / f"{name}-{fingerprint}.yaml"
            assert kept.read_text() == load_prompt(name).content
    assert [pair.query for pair in read_pairs(result.path)] == [p.query for p in result.pairs]
    report = json.loads((tmp_path / "report.json").read_text())
    assert (report["num_drafts"], report["num_pairs"], report["num_failed"]) == (18, 18, 0)
    assert any("18 pairs of 18 drafts" in line for line in result.report.lines())


def test_order_of_answers_and_number_of_workers_change_nothing(tmp_path: Path) -> None:
    class Patient(FakeChat):
        def answer(self, keys: set[str], schema: Mapping[str, Any]) -> Mapping[str, Any]:
            import time

            text = self.asked[-1]
            number = next(i for i, d in enumerate(DOCUMENTS) if d.text in text)
            time.sleep(0.01 * (6 - number))
            return {"queries": [f"want {number} a", f"seek {number} b"]}

    bytes_ = []
    for workers in (1, 4):

        class Own(Patient):
            def complete(self, messages: Any, **settings: Any) -> str:
                own = Patient()
                return own.complete(messages, **settings)

        folder = tmp_path / str(workers)
        synthesize(DOCUMENTS, Own(), SynthesisConfig(num_workers=workers), folder=folder)
        bytes_.append((folder / "pairs.jsonl").read_bytes())
    assert bytes_[0] == bytes_[1]


class Saying(FakeChat):
    """Always says the same queries."""

    def __init__(self, *queries: str, negatives: Sequence[str] = ()) -> None:
        super().__init__()
        self.queries = queries
        self.negatives = list(negatives)

    def answer(self, keys: set[str], schema: Mapping[str, Any]) -> Mapping[str, Any]:
        if keys == {"queries"}:
            return {"queries": list(self.queries)}
        return {"query": self.queries[0], "hard_negative": self.negatives.pop(0)}


LONG = Document(
    id="long",
    text="The quick brown fox jumps over the lazy dog while the old cat watches from the wall. "
    "读取文件的第一步是打开路径然后逐行处理内容",
)


@pytest.mark.parametrize(
    ("query", "fault"),
    [
        ("brown fox jumps over the lazy dog while", "leak"),
        ("why brown fox jumps over the lazy dog", "leak"),
        ("according to the passage, who jumps?", "mentions_the_document"),
        ("What does this document say about foxes", "mentions_the_document"),
        ("根据本文，狐狸做了什么", "mentions_the_document"),
        ("第一步是打开路径然后逐行处理", "leak"),
        ("!?", "empty"),
        ("lazy dog", None),
        ("which animal leaps above a sleepy hound while being watched by the old cat", None),
        ("open the file in the text editor", None),
        ("基本文件如何打开", None),
        ("文件的第一步", None),
    ],
)
def test_leaks_and_mentions_are_dropped_and_counted(
    tmp_path: Path, query: str, fault: str | None
) -> None:
    result = synthesize([LONG], Saying(query), folder=tmp_path)
    assert result.report.dropped == ({} if fault is None else {fault: 1})
    assert len(result.pairs) == (fault is None)
    if fault:
        assert result.report.dropped_examples[fault][0]["query"] == query


def test_a_query_that_is_or_names_its_answer_is_dropped(tmp_path: Path) -> None:
    short = Document(id="s", text="Mount Everest")
    chat = Saying("mount  everest", "how high is Mount Everest", "highest peak")
    result = synthesize([short], chat, folder=tmp_path)
    assert [pair.query for pair in result.pairs] == ["highest peak"]
    assert result.report.dropped == {"query_is_positive": 1, "leak": 1}


def test_duplicates_are_dropped_across_documents_and_near_ones_within(tmp_path: Path) -> None:
    near = "what are the most usual and best known ways to part this thing well"
    chat = Saying(near, near.upper() + "?", near + " now")
    result = synthesize(DOCUMENTS[:2], chat, folder=tmp_path)
    assert [pair.query for pair in result.pairs] == [near, near + " now"]
    assert result.pairs[1].positive == DOCUMENTS[1].full_text
    assert result.report.dropped == {"duplicate": 3, "near_duplicate": 1}


def test_negatives_that_are_none_are_left_out_and_the_pair_stays(tmp_path: Path) -> None:
    text = DOCUMENTS[0].full_text
    chat = Saying("fine query", negatives=[text + " indeed"])
    config = SynthesisConfig(method=CraftedConfig(tasks=("question",)))
    result = synthesize(DOCUMENTS[:1], chat, config, folder=tmp_path)
    assert result.pairs[0].negatives == ()
    assert result.report.dropped == {"negative_is_positive": 1}
    for number, (negative, fault) in enumerate(
        [("Fine query", "negative_is_query"), ("--", "negative_is_empty")]
    ):
        chat = Saying("fine query", negatives=[negative])
        result = synthesize(DOCUMENTS[:1], chat, config, folder=tmp_path / str(number))
        assert result.report.dropped == {fault: 1}


def test_cosine_filter_drops_far_pairs_and_near_negatives(tmp_path: Path) -> None:
    encoder = HashEncoder(256)
    text = DOCUMENTS[0].full_text
    near, far = "Topic0 part0 works with braces", "zebra quilt xylophone"
    chat = Saying(near, far)
    config = SynthesisConfig(min_cosine=0.3, max_copied_share=1.0)
    result = synthesize(DOCUMENTS[:1], chat, config, folder=tmp_path / "a", encoder=encoder)
    cosines = encoder.encode([near, far]) @ encoder.encode([text])[0]
    assert cosines[0] > 0.3 > cosines[1]
    assert [pair.query for pair in result.pairs] == [near]
    assert result.report.dropped == {"low_cosine": 1}
    assert result.report.cosine_quantiles["0.50"] == pytest.approx(
        float(np.mean(cosines)), abs=1e-5
    )
    crafted = replace(config, method=CraftedConfig(tasks=("question",)))
    chat = Saying(near, negatives=["Topic0 part0 works with braces too"])
    result = synthesize(DOCUMENTS[:1], chat, crafted, folder=tmp_path / "b", encoder=encoder)
    assert (result.pairs[0].negatives, result.report.dropped) == ((), {"near_negative": 1})
    with pytest.raises(ConfigError, match="min_cosine needs an encoder"):
        synthesize(DOCUMENTS, chat, config, folder=tmp_path / "c")


def test_other_filters_ask_nothing_again(tmp_path: Path) -> None:
    synthesize(DOCUMENTS, FakeChat(), folder=tmp_path)
    chat = FakeChat()
    result = synthesize(
        DOCUMENTS,
        chat,
        SynthesisConfig(min_cosine=0.9),
        folder=tmp_path,
        encoder=HashEncoder(64),
    )
    assert chat.asked == []
    assert result.report.dropped == {"low_cosine": 18}


def test_new_documents_are_added_to_what_is_there(tmp_path: Path) -> None:
    synthesize(DOCUMENTS[:4], FakeChat(), folder=tmp_path)
    chat = FakeChat()
    result = synthesize(DOCUMENTS, chat, folder=tmp_path)
    assert len(chat.asked) == 2
    assert result.report.num_documents == 6


def test_equal_and_empty_documents_are_asked_about_once_and_never(tmp_path: Path) -> None:
    chat = FakeChat()
    documents = [DOCUMENTS[0], replace(DOCUMENTS[0], id="twin"), Document(id="e", text="  ")]
    synthesize(documents, chat, folder=tmp_path)
    assert len(chat.asked) == 1
    with pytest.raises(DataError, match="there are no documents with text"):
        synthesize(documents[2:], chat, folder=tmp_path / "none")


def test_max_documents_draws_by_seed(tmp_path: Path) -> None:
    def asked(seed: int, folder: str) -> set[str]:
        result = synthesize(
            DOCUMENTS,
            FakeChat(),
            SynthesisConfig(max_documents=3, seed=seed),
            folder=tmp_path / folder,
        )
        return {pair.positive for pair in result.pairs}

    assert len(asked(0, "a")) == 3
    assert asked(0, "b") == asked(0, "c")
    assert len({frozenset(asked(seed, f"s{seed}")) for seed in range(5)}) > 1


def test_settings_of_another_run_are_refused(tmp_path: Path) -> None:
    synthesize(DOCUMENTS[:1], FakeChat(), folder=tmp_path)
    other = FakeChat()
    other.model = "bigger"
    with pytest.raises(ConfigError, match=r"journal.jsonl: .*begun with another model; go on with"):
        synthesize(DOCUMENTS[:1], other, folder=tmp_path)
    with pytest.raises(ConfigError, match="another seed"):
        synthesize(DOCUMENTS[:1], FakeChat(), SynthesisConfig(seed=1), folder=tmp_path)


def test_unusable_answers_are_counted_and_asked_again_only_on_wish(tmp_path: Path) -> None:
    class Stubborn(FakeChat):
        def answer(self, keys: set[str], schema: Mapping[str, Any]) -> Mapping[str, Any]:
            if DOCUMENTS[2].text in self.asked[-1]:
                raise AnswerError("no usable JSON")
            return super().answer(keys, schema)

    report = synthesize(DOCUMENTS, Stubborn(), folder=tmp_path).report
    assert (report.num_items, report.num_failed, report.failures) == (6, 1, ["no usable JSON"])
    chat = FakeChat()
    assert synthesize(DOCUMENTS, chat, folder=tmp_path).report.num_failed == 1
    assert chat.asked == []
    assert synthesize(DOCUMENTS, chat, folder=tmp_path, retry_failed=True).report.num_failed == 0
    assert len(chat.asked) == 1


def test_own_prompts_replace_ours(tmp_path: Path) -> None:
    prompt = load_prompt("gpl")
    own = tmp_path / "own"
    own.mkdir()
    fields = {"system": "s", "user": "Ask in $language: $document $count", "answer": prompt.answer}
    (own / "gpl.yaml").write_text(yaml.safe_dump(fields))
    chat = FakeChat()
    config = SynthesisConfig(prompts=str(own))
    synthesize(DOCUMENTS[:1], chat, config, folder=tmp_path / "out")
    assert chat.asked[0].startswith("Ask in English: Title0 Topic0")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("system: [", "prompt 'gpl' is not YAML"),
        ("just text", "must hold answer, system and user, found str"),
        ("system: s\nuser: u", r"must hold answer, system and user, found \['system', 'user'\]"),
        ("system: s\nuser: u\nanswer: {anyOf: []}", "answer of prompt 'gpl' uses 'anyOf'"),
        ("system: s\nuser: $topic\nanswer: {type: object}", "prompt 'gpl' holds 'topic', which"),
    ],
)
def test_broken_prompts_are_named(tmp_path: Path, content: str, message: str) -> None:
    (tmp_path / "gpl.yaml").write_text(content)
    config = SynthesisConfig(prompts=str(tmp_path))
    with pytest.raises(ConfigError, match=message):
        synthesize(DOCUMENTS[:1], FakeChat(), config, folder=tmp_path / "out")


def test_shown_text_is_cut_at_white_space() -> None:
    document = Document(id="x", text="alpha beta gamma")
    assert shown_text(document, 16) == "alpha beta gamma"
    assert shown_text(document, 12) == "alpha beta …"
    assert shown_text(document, 3) == "alp …"


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: GplConfig(queries_per_document=0), r"must be in 1\.\.32, got 0"),
        (lambda: PersonaConfig(num_people=0), "num_people must be >= 1"),
        (lambda: PersonaConfig(people=("a",)), "num_people is 5, but only 1 people are given"),
        (lambda: PersonaConfig(lengths=()), "lengths must not be empty"),
        (lambda: BrainstormConfig(example_kinds=()), "example_kinds must not be empty"),
        (lambda: BrainstormConfig(num_tasks=0), "num_tasks and rows_per_task must be >= 1"),
        (lambda: BrainstormConfig(query_styles=()), "query_styles and difficulties must not"),
        (lambda: CraftedConfig(tasks=()), "tasks must not be empty"),
        (lambda: SynthesisConfig(languages=()), "languages must not be empty"),
        (lambda: SynthesisConfig(num_workers=0), "num_workers must be >= 1, got 0"),
        (lambda: SynthesisConfig(max_documents=-1), "max_documents must be >= 0, got -1"),
        (lambda: SynthesisConfig(max_copied_share=2), r"max_copied_share must be in \[0, 1\]"),
        (lambda: SynthesisConfig(min_cosine=2), r"min_cosine must be in \[-1, 1\], got 2"),
        (lambda: SynthesisConfig(max_failures_in_a_row=0), "max_failures_in_a_row must be >= 1"),
    ],
)
def test_contradictions_are_refused(make: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        make()
