"""``gte evaluate`` and what a user can mend: one line, exit code 2, nothing lost."""

from __future__ import annotations

import json
from itertools import chain, repeat

import numpy as np
import pytest

from opengte.cli.main import run
from opengte.search import cached_encoder

NUM_DOCUMENTS = 20


@pytest.fixture
def task(tmp_path):
    folder = tmp_path / "topics"
    (folder / "qrels").mkdir(parents=True)
    documents = [{"_id": f"d{n}", "text": f"text number {n}"} for n in range(NUM_DOCUMENTS)]
    asked = [{"_id": f"q{n}", "text": f"question {n}"} for n in range(4)]
    for name, rows in (("corpus", documents), ("queries", asked)):
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    judged = "".join(f"q{n}\td{n}\t1\n" for n in range(4))
    (folder / "qrels/test.tsv").write_text(f"query-id\tcorpus-id\tscore\n{judged}")
    return folder


@pytest.fixture
def model(endpoint, reply):
    """An endpoint whose vectors follow from the text; ``endpoint.sizes`` may change their size."""
    endpoint.sizes = iter(())

    def vectors(request):
        size = next(endpoint.sizes, 8)
        if size == 0:
            return reply({"error": {"message": "out of memory"}}, 400)
        rows = [
            np.random.default_rng(sum(text.encode())).normal(size=size).tolist()
            for text in request.payload["input"]
        ]
        return reply({"data": [{"index": n, "embedding": row} for n, row in enumerate(rows)]})

    endpoint.answer = vectors
    return f"{endpoint.url}#tiny"


def evaluate(capsys, model, task, *more, code=0):
    found = run(["evaluate", str(model), "--task", str(task), "--quiet", *map(str, more)])
    captured = capsys.readouterr()
    assert found == code, captured.err
    if code:
        (line,) = captured.err.splitlines()
        assert line.startswith("error: ")
        return line
    return captured.out


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("q1\td99\t1\n", r"qrels/test.tsv:6: judges the document 'd99', which is not"),
        ("q99\td1\t1\n", r"qrels/test.tsv:6: judges the query 'q99', which is not"),
    ],
)
def test_judgements_of_unknown_ids_are_one_line(capsys, model, endpoint, task, row, message):
    with open(task / "qrels/test.tsv", "a") as stream:
        stream.write(row)
    assert message in evaluate(capsys, model, task, code=2)
    assert endpoint.requests == []  # told before anything is computed


def test_an_empty_corpus_is_one_line(capsys, model, endpoint, task):
    (task / "corpus.jsonl").write_text("")
    assert "corpus.jsonl: the corpus is empty" in evaluate(capsys, model, task, code=2)
    assert endpoint.requests == []


def test_a_model_of_another_dimension_is_one_line(capsys, model, endpoint, task):
    endpoint.sizes = iter([8, 5])
    line = evaluate(capsys, model, task, code=2)
    assert "gave vectors of 5 dimensions, but 8 before" in line


def test_an_endpoint_that_dies_half_way_loses_nothing_that_was_kept(
    capsys, model, endpoint, task, tmp_path, monkeypatch
):
    monkeypatch.setattr(cached_encoder, "TEXTS_PER_SHARD", 6)
    expected = evaluate(capsys, model, task, "--json", tmp_path / "straight.json")
    # The probe and three requests are answered; then nothing is, however often it is asked.
    endpoint.sizes = chain([8, 8, 8, 8], repeat(0))
    arguments = ("--cache", tmp_path / "cache", "--json", tmp_path / "numbers.json")
    assert "out of memory" in evaluate(capsys, model, task, *arguments, code=2)
    assert not (tmp_path / "numbers.json").exists()
    endpoint.sizes = iter(())
    endpoint.requests.clear()
    assert evaluate(capsys, model, task, *arguments).split()[:3] == expected.split()[:3]
    sent = [text for request in endpoint.requests for text in request.payload["input"]]
    assert len(sent) < NUM_DOCUMENTS  # what the first run got was not asked for again
    scores = [
        json.loads((tmp_path / f"{name}.json").read_text())["tasks"]["topics"]["metrics"]
        for name in ("straight", "numbers")
    ]
    assert scores[0] == scores[1]
