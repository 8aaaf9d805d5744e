from __future__ import annotations

import json
import re
from dataclasses import replace
from html.parser import HTMLParser

import numpy as np
import pytest

from opengte.errors import DataError
from opengte.evaluation.page import render_page, write_page
from opengte.evaluation.results import EvaluationRun, FoundText, Item, TaskResult

NASTY = '</script><script>alert("x")</script> & <b>bold</b>'


def system(model, shift, *, name="docs", seed=None):
    rng = np.random.default_rng(0)
    values = {f"q{n}": float(min(1.0, v * 0.5 + shift)) for n, v in enumerate(rng.random(30))}
    items = {
        query: Item(
            text=f"question {query} {NASTY if query == 'q3' else ''}",
            group="pkg",
            hits=(FoundText("d1", 0.9, 1, NASTY), FoundText("d2", 0.8, None, "plain")),
            relevant=(FoundText("d9", 0.0, 2, "missed"),),
        )
        for query in values
    }
    score = float(np.mean(list(values.values())))
    result = TaskResult(
        name=name,
        type="retrieval",
        split="test",
        main_metric="ndcg@10",
        main_score=score,
        ci95=(score - 0.05, score + 0.05),
        metrics={"ndcg@10": score},
        per_query={"ndcg@10": values},
        items=items,
        num_items=30,
        mark="leaked" if model == "cheat" else "",
    )
    return EvaluationRun(model=model, results={result.key: result}, seed=seed)


class Collector(HTMLParser):
    def __init__(self):
        super().__init__()
        self.tags, self.links, self.scripts = [], [], 0

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        self.scripts += tag == "script"
        self.links += [v for k, v in attributes if k in ("src", "href")]


def data_of(page):
    block = re.search(r'<script type="application/json" id="data">(.*?)</script>', page, re.S)
    return json.loads(block.group(1))


def test_page_stands_alone_and_no_text_escapes_its_place():
    page = render_page([system("base", 0.0), system("better", 0.1)], title=NASTY)
    found = Collector()
    found.feed(page)
    assert found.scripts == 2
    assert found.links == []
    assert "b" not in found.tags
    assert "http" not in page.replace("http-equiv", "")
    outside = re.sub(r'<script type="application/json".*?</script>', "", page, flags=re.S)
    assert "<script>alert" not in outside
    assert NASTY not in page


def test_page_holds_queries_of_both_systems_widest_difference_first():
    other = system("better", 0.1)
    values = dict(other.results["docs"].per_query["ndcg@10"])
    values["q7"] = 0.0
    other.results["docs"] = replace(other.results["docs"], per_query={"ndcg@10": values})
    (task,) = data_of(render_page([system("base", 0.2), other]))
    assert task["models"] == ["base", "better"]
    assert task["rows"][0]["id"] == "q7"
    assert task["rows"][0]["hits"][0][0]["text"] == NASTY
    assert task["rows"][0]["relevant"][0]["id"] == "d9"
    assert len(task["rows"]) == 30


def test_page_shows_interval_difference_and_marks():
    page = render_page([system("base", 0.0), system("cheat", 0.1)])
    assert "+0.1000" in page
    assert "cheat against base" in page
    assert 'class="leaked" title="leaked"' in page
    assert "queries only" in page


def test_baseline_is_chosen_by_name():
    runs = [system("a", 0.0), system("b", 0.1), system("c", 0.2)]
    page = render_page(runs, baseline="b")
    assert "a against b" in page
    assert data_of(page)[0]["models"][0] == "b"
    with pytest.raises(DataError, match=r"no results of the baseline 'z'; there are: a, b, c"):
        render_page(runs, baseline="z")
    with pytest.raises(DataError, match="no results to show"):
        render_page([])


def test_published_scores_stand_beside_ours(tmp_path):
    run = system("mine", 0.3, name="scifact")
    run.results["scifact"] = replace(run.results["scifact"], num_items=300)
    page = write_page(tmp_path / "page.html", [run], published=True).read_text()
    assert "thenlper/gte-small" in page
    assert "0.7270" in page


def test_results_without_single_values_give_a_page_all_the_same():
    run = system("a", 0.0)
    run.results["docs"] = replace(run.results["docs"], per_query={}, items={})
    assert data_of(render_page([run])) == []


def test_seeds_are_named():
    runs = [system("a", 0.0, seed=1), system("a", 0.1, seed=2)]
    page = render_page(runs)
    assert "seed 1" in page
    assert "seed 2" in page
