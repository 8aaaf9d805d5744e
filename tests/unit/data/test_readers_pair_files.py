from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from opengte.data.readers import ReadReport, read_pairs
from opengte.errors import DataError
from opengte.records import Pair


def write_rows(path: Path, *rows: Any) -> Path:
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))
    return path


def read_row(tmp_path: Path, row: dict[str, Any], **settings: Any) -> list[Pair]:
    return list(read_pairs(write_rows(tmp_path / "rows.jsonl", row), **settings))


def test_error_names_file_line_and_field(tmp_path: Path) -> None:
    path = write_rows(
        tmp_path / "pairs.jsonl",
        *[{"query": "q", "positive": "p"}] * 811,
        {"query": "q", "answer": "a"},
    )
    expected = r"pairs\.jsonl:812: no field 'positive'; found \['answer', 'query'\]"
    with pytest.raises(DataError, match=expected):
        list(read_pairs(path))


def test_first_row_without_a_known_layout_says_how_to_name_the_fields(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"rows\.jsonl:1: no field 'positive'.*columns="):
        read_row(tmp_path, {"query": "q", "answer": "a"})
    with pytest.raises(DataError, match="no fields of a pair; found \\['x'\\]; expected 'query'"):
        read_row(tmp_path, {"x": "q"})
    pairs = read_row(tmp_path, {"query": "q", "answer": "a"}, columns={"positive": "answer"})
    assert pairs == [Pair("q", "a", origin="rows.jsonl:1")]


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"query": "q", "positive": ""}, "field 'positive' is blank"),
        ({"query": " \n", "positive": "p"}, "field 'query' is blank"),
        ({"query": None, "positive": "p"}, "field 'query' must be a text, got None"),
        ({"query": "q", "positive": 3}, "field 'positive' must be a text, got 3"),
        ({"query": "q", "positive": "p", "score": "high"}, "'score' must be a finite number"),
        ({"query": "q", "positive": "p", "score": 4.2}, r"must lie in \[0, 1\], got 4.2"),
        ({"query": "q", "positive": "p", "negatives": "n", "group": 1}, "'group' must be a text"),
        ({"query": "q", "positive": "p", "negatives": {"a": 1}}, "must be a list of texts"),
        ({"query": "q", "positive": "p", "negatives": ["n", ""]}, r"negatives\[1\] must be a text"),
        (
            {"query": "q", "positive": "p", "negatives": ["n"], "negative_scores": [1, 2]},
            "2 negative_scores for 1 negatives",
        ),
        ({"query": "q", "pos": []}, "field 'pos' is empty"),
        ({"query": "q", "pos": ["p"], "pos_scores": [1, 2]}, "2 pos_scores for 1 pos"),
        ({"sentence1": "a", "sentence2": "b", "label": "entailment"}, "format='nli'"),
        ({"query": "q", "positive_passages": [{"title": "t"}]}, "no field 'text'"),
        ({"messages": [], "positive_messages": [[]]}, "holds no message"),
    ],
)
def test_bad_value_is_named(row: dict[str, Any], message: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=rf"rows\.jsonl:1: .*{message}"):
        read_row(tmp_path, row)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (b'{"query": "q", "positive": "p", "score": NaN}', "NaN and Infinity are no JSON values"),
        (
            b'{"query": "q\xff", "positive": "p"}',
            r"byte 12 of the line \(0xFF\) is not valid UTF-8",
        ),
        (b'{"query": "q"', "not valid JSON"),
        (b'["q", "p"]', "expected one JSON object a line, got list"),
    ],
)
def test_bad_line_is_an_error_or_a_counted_skip(line: bytes, message: str, tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    good = b'{"query": "q", "positive": "p"}'
    path.write_bytes(b"\n".join([good, b"", line, good]))
    with pytest.raises(DataError, match=rf"rows\.jsonl:3: .*{message}"):
        list(read_pairs(path))
    report = ReadReport()
    pairs = list(read_pairs(path, on_bad_row="skip", report=report))
    assert [pair.origin for pair in pairs] == ["rows.jsonl:1", "rows.jsonl:4"]
    assert (report.read["pairs"], report.num_skipped) == (2, 1)


def test_sentence_transformers_rows(tmp_path: Path) -> None:
    row = {
        "anchor": "a",
        "positive": "p",
        "negative_2": "n2",
        "negative_10": "n10",
        "negative": "n",
    }
    assert read_row(tmp_path, row)[0].negatives == ("n", "n2", "n10")
    scored = {"sentence1": "a", "sentence2": "b", "score": 0.25}
    assert read_row(tmp_path, scored)[0].score == 0.25
    assert read_row(tmp_path, {"sentence1": "a", "sentence2": "b", "label": 0})[0].score == 0.0


def test_flag_embedding_rows_keep_every_positive_and_negative(tmp_path: Path) -> None:
    row = {
        "query": "q",
        "pos": ["p1", "p2"],
        "neg": ["n1", "n2"],
        "prompt": "find",
        "type": "normal",
    }
    first, second = read_row(tmp_path, row)
    assert (first.positive, second.positive) == ("p1", "p2")
    assert first.negatives == second.negatives == ("n1", "n2")
    assert first.kind == "normal"


def test_teacher_scores_keep_their_differences_and_positives_stay_positive(tmp_path: Path) -> None:
    row = {
        "query": "q",
        "pos": ["p"],
        "neg": ["n", "m"],
        "pos_scores": [-2],
        "neg_scores": [-5, -3],
    }
    pair = read_row(tmp_path, row)[0]
    assert (pair.score, pair.negative_scores) == (1.0, (-2.0, 0.0))
    row.update(pos_scores=[0.9], neg_scores=[0.2, 0.1])
    pair = read_row(tmp_path, row)[0]
    assert (pair.score, pair.negative_scores) == (0.9, (0.2, 0.1))


def test_tevatron_rows_join_title_and_text(tmp_path: Path) -> None:
    row = {
        "query_id": "1",
        "query": "q",
        "positive_passages": [{"docid": "7", "title": "T", "text": "p"}],
        "negative_passages": [{"docid": "8", "title": "", "text": "n"}],
    }
    assert read_row(tmp_path, row) == [Pair("q", "T p", ("n",), origin="rows.jsonl:1")]


def test_swift_rows_read_conversations_without_the_system_message(tmp_path: Path) -> None:
    def said(text: str) -> list[dict[str, str]]:
        return [{"role": "user", "content": text}]

    row = {
        "messages": [{"role": "system", "content": "Find."}, *said("q")],
        "positive_messages": [said("p")],
        "negative_messages": [said("n"), said("m")],
    }
    assert read_row(tmp_path, row) == [Pair("q", "p", ("n", "m"), origin="rows.jsonl:1")]
    row = {"query": "q", "response": "p", "rejected_response": ["n"], "label": 1}
    assert read_row(tmp_path, row) == [Pair("q", "p", ("n",), 1.0, origin="rows.jsonl:1")]


def test_empty_file_holds_no_pairs(tmp_path: Path) -> None:
    (tmp_path / "empty.jsonl").write_bytes(b"")
    with pytest.raises(DataError, match=r"empty\.jsonl: holds no pairs: it is empty"):
        list(read_pairs(tmp_path / "empty.jsonl"))


def test_file_of_bad_rows_only_says_so(tmp_path: Path) -> None:
    path = write_rows(tmp_path / "rows.jsonl", {"query": "q", "positive": ""}, 3)
    with pytest.raises(DataError, match=r"holds no pairs; 2 rows were skipped \(1 x"):
        list(read_pairs(path, on_bad_row="skip"))


def test_binary_file_is_named_as_such(tmp_path: Path) -> None:
    (tmp_path / "x.jsonl").write_bytes(bytes(range(256)))
    with pytest.raises(DataError, match=r"x\.jsonl:1: a binary file, not JSON lines"):
        list(read_pairs(tmp_path / "x.jsonl"))


def test_unknown_formats_are_refused(tmp_path: Path) -> None:
    (tmp_path / "pairs.xyz").write_text("q p")
    with pytest.raises(DataError, match=r"pairs\.xyz: cannot tell the format of a \.xyz file"):
        list(read_pairs(tmp_path / "pairs.xyz"))
    with pytest.raises(DataError, match="unknown format 'yaml'"):
        list(read_pairs(tmp_path / "pairs.xyz", format="yaml"))
    with pytest.raises(DataError, match=r"a folder without corpus\.jsonl"):
        list(read_pairs(tmp_path))
    with pytest.raises(DataError, match=r"gone\.jsonl: no such file"):
        list(read_pairs(tmp_path / "gone.jsonl"))
    with pytest.raises(DataError, match="on_bad_row must be 'error' or 'skip', got 'ignore'"):
        list(read_pairs(tmp_path / "pairs.xyz", on_bad_row="ignore"))  # type: ignore[arg-type]


json_values = st.recursive(
    st.none() | st.booleans() | st.floats(allow_nan=False) | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner),
    max_leaves=4,
)
FIELDS = (
    "query positive negatives negative negative_1 score negative_scores group anchor pos neg "
    "pos_scores neg_scores sentence1 sentence2 label messages positive_messages query_id "
    "positive_passages negative_passages response rejected_response"
)
field_names = st.sampled_from(FIELDS.split())


@settings(deadline=None)
@given(st.lists(st.dictionaries(field_names, json_values | st.text(min_size=1)), max_size=4))
def test_any_rows_give_pairs_or_a_data_error(rows: list[dict[str, Any]]) -> None:
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "rows.jsonl"
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
        for policy in ("error", "skip"):
            try:
                pairs = list(read_pairs(path, on_bad_row=policy))
            except DataError:
                continue
            assert all(pair.query.strip() and pair.positive.strip() for pair in pairs)


@pytest.mark.shared
def test_real_pair_files_read_whole(shared_data: Path) -> None:
    counts = {"mrpc_train": 2559, "subjqa_reviews": 3069, "covidfact": 1291}
    for name, expected in counts.items():
        pairs = list(read_pairs(shared_data / "pairs" / f"{name}.jsonl.zst"))
        assert len(pairs) == expected
    assert sum(bool(pair.negatives) for pair in pairs) == 1277
