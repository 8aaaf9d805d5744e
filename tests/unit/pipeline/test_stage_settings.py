"""Settings of stages that contradict each other are refused, by key and with what to do."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from opengte.pipeline.recipe import Recipe

DATA = {"kind": "split", "sources": {"a": {"path": "x.jsonl"}}}


def recipe(**stages: dict[str, Any]) -> Recipe:
    return Recipe.model_validate(
        {"name": "r", "backbone": {"model": "m"}, "stages": {"data": DATA, **stages}}
    )


@pytest.mark.parametrize(
    ("stage", "match"),
    [
        ({"kind": "contrastive", "model": "base"}, r"give pairs \(a stage\) or sources"),
        ({"kind": "contrastive", "model": "base", "pairs": "data", "epochs": 1.0,
          "training": {"num_steps": 3}}, "all say how long to train; give one of them"),
        ({"kind": "contrastive", "model": "base", "pairs": "data", "snapshots": [1.5]},
         r"snapshots are shares of the run in \(0, 1\)"),
        ({"kind": "contrastive", "model": "base", "pairs": "data", "refresh": {}},
         "give dynamic or remine, one of the two"),
        ({"kind": "mine", "pairs": "data"}, "model is missing: the encoder that ranks"),
        ({"kind": "mine", "pairs": "data", "model": "base", "teacher": {}},
         "a teacher of kind encoder names stage or model"),
        ({"kind": "filter", "pairs": "data"}, "give model or teacher as the judge"),
        ({"kind": "filter", "pairs": "data", "model": "base", "rule": "score"},
         "min_score belongs to rule: score, and it needs one"),
        ({"kind": "merge", "candidates": ["base"]}, "select needs candidates, anchor and data"),
        ({"kind": "merge", "method": "slerp", "models": ["base"]}, "needs two or more models"),
        ({"kind": "merge", "method": "linear", "models": ["base", "base"], "shares": [1.0]},
         "shares must be > 0, one for each of models"),
        ({"kind": "mlm", "model": "base", "texts": {}}, "should have at least 1 item"),
        ({"kind": "synthesize", "documents": "x", "synthesis": {"min_cosine": 0.5}},
         "min_cosine needs a model"),
        ({"kind": "evaluate", "model": "nobody"}, "no stage 'nobody' runs before"),
        ({"kind": "evaluate", "model": "data"}, "'data' is a split stage; expected one of kind"),
        ({"kind": "mine", "pairs": "data", "model": "base", "teacher": {"stage": "data"}},
         r"stages.x.teacher.stage: 'data' is a split stage"),
    ],
)  # fmt: skip
def test_contradictions(stage, match):
    with pytest.raises(ValidationError, match=match):
        recipe(x=stage)


def test_a_snapshot_must_be_one_that_its_stage_keeps():
    train = {"kind": "contrastive", "model": "base", "pairs": "data", "snapshots": [0.5]}
    recipe(train=train, final={"kind": "evaluate", "model": "train@0.5"})
    with pytest.raises(ValidationError, match=r"'train' keeps no snapshot at 0.7; it keeps 0.5"):
        recipe(train=train, final={"kind": "evaluate", "model": "train@0.7"})
    with pytest.raises(ValidationError, match="must be a stage, or STAGE@SHARE"):
        recipe(train=train, final={"kind": "evaluate", "model": "train@end"})
