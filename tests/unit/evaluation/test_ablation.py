from __future__ import annotations

from xml.etree import ElementTree

import numpy as np
import pytest
import scipy.stats
from hypothesis import given, settings
from hypothesis import strategies as st

from opengte.errors import ConfigError, DataError
from opengte.evaluation.ablation import (
    ablation_lines,
    ablation_rows,
    ablation_svg,
    cell_name,
    expand_grid,
    minimal_detectable_effect,
    seed_noise,
)


def test_grid_starts_with_the_reference():
    grid = expand_grid({"alpha": ["0.5", "1"], "loss": ["gte", "info_nce"]})
    assert grid[0] == {"alpha": "0.5", "loss": "gte"}
    assert len(grid) == 4
    with pytest.raises(ConfigError, match="--vary alpha needs different values"):
        expand_grid({"alpha": ["1", "1"]})


def test_cells_have_lasting_names_that_are_paths():
    name = cell_name({"loss.kind": "a/b c"}, 3)
    assert name == "loss.kind=a_b_c,seed=3"
    assert cell_name({}, 0) == "reference,seed=0"


def test_seed_noise_covers_the_true_deviation():
    rng = np.random.default_rng(0)
    covered = sum(
        (noise := seed_noise(rng.normal(0.6, 0.01, 5))).low <= 0.01 <= noise.high
        for _ in range(400)
    )
    assert 0.92 <= covered / 400 <= 0.98
    with pytest.raises(DataError, match="at least two seeds, got 1"):
        seed_noise([0.5])


@pytest.mark.parametrize("num_seeds", [2, 3, 10])
def test_detectable_effect_is_detected_as_often_as_promised(num_seeds):
    effect = minimal_detectable_effect(1.0, num_seeds, power=0.8)
    rng = np.random.default_rng(1)
    a = rng.normal(effect, 1, (4000, num_seeds))
    b = rng.normal(0, 1, (4000, num_seeds))
    seen = np.mean(scipy.stats.ttest_ind(a, b, axis=1).pvalue < 0.05)
    assert seen == pytest.approx(0.8, abs=0.03)


@settings(deadline=None, max_examples=25)
@given(st.integers(2, 12), st.integers(1, 10))
def test_more_seeds_see_less_and_more_comparisons_need_more(num_seeds, num_comparisons):
    effect = minimal_detectable_effect(0.01, num_seeds, num_comparisons=num_comparisons)
    more = minimal_detectable_effect(0.01, num_seeds + 1, num_comparisons=num_comparisons)
    wider = minimal_detectable_effect(0.01, num_seeds, num_comparisons=num_comparisons + 1)
    assert more < effect < wider


def test_one_seed_detects_nothing():
    with pytest.raises(ConfigError, match="--seeds 2 at least, got 1"):
        minimal_detectable_effect(0.01, 1)


def test_rows_equal_welch_with_holm():
    rng = np.random.default_rng(2)
    cells = [({"x": str(n)}, rng.normal(0.5 + 0.02 * n, 0.01, 4)) for n in range(4)]
    rows = ablation_rows(cells)
    assert rows[0].difference is None
    p_values = [scipy.stats.ttest_ind(s, cells[0][1], equal_var=False) for _, s in cells[1:]]
    for row, test in zip(rows[1:], p_values, strict=True):
        low, high = test.confidence_interval()
        assert row.difference.low == pytest.approx(low)
        assert row.difference.high == pytest.approx(high)
        assert row.p_holm >= test.pvalue
    assert min(row.p_holm for row in rows[1:]) == pytest.approx(
        3 * min(test.pvalue for test in p_values)
    )


def test_equal_scores_differ_by_nothing():
    rows = ablation_rows([({}, [0.5, 0.5]), ({"x": "1"}, [0.5, 0.5])])
    assert rows[1].difference.mean == 0.0
    assert rows[1].p_holm == 1.0


def test_setting_with_one_seed_is_refused():
    with pytest.raises(DataError, match=r"\{'x': '1'\} has 1 seeds; at least 2 are needed"):
        ablation_rows([({}, [0.5, 0.6]), ({"x": "1"}, [0.5])])


def test_table_and_plot_show_every_setting():
    rows = ablation_rows([({"a": "<1>"}, [0.5, 0.52]), ({"a": "2"}, [0.6, 0.61])])
    lines = ablation_lines(rows, metric="mrr@10")
    assert "reference" in lines[1]
    assert "+0.0950" in lines[2]
    drawing = ElementTree.fromstring(ablation_svg(rows, metric="mrr@10"))
    texts = "".join(drawing.itertext())
    assert "a=<1>" in texts
    assert "a=2" in texts
