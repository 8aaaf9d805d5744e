"""Texts -> how well k-means on their embeddings finds the true groups (MTEB's protocols).

``bootstrapped`` is that of MTEB's current clustering tasks: mini-batch k-means on ten samples
drawn with replacement. ``whole`` is that of its first ones: one k-means on all texts.
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from opengte.errors import ConfigError, DataError
from opengte.evaluation.measurement import Embedder, Measurement
from opengte.evaluation.tasks import ClusteringTask
from opengte.metrics.bootstrap import Interval, statistic_interval
from opengte.metrics.clustering import adjusted_mutual_information, v_measure


@dataclass(frozen=True, kw_only=True)
class ClusteringConfig:
    """MTEB's settings.

    Attributes:
        protocol: see the module.
        max_fraction: share of the texts that is embedded (``bootstrapped``); MTEB's class has
            0.04 for sets of 100k texts. None embeds all, for sets of some thousand.
        max_texts: texts that are embedded at most; not together with ``max_fraction``.
        num_experiments: samples drawn (``bootstrapped``); 10.
        texts_per_experiment: size of each, with replacement (``bootstrapped``); 16,384.
        batch_size: of k-means; 512 (``bootstrapped``), 500 (``whole``).
        seed: 42.
    """

    protocol: Literal["bootstrapped", "whole"] = "bootstrapped"
    max_fraction: float | None = None
    max_texts: int | None = None
    num_experiments: int = 10
    texts_per_experiment: int = 16_384
    batch_size: int | None = None
    seed: int = 42

    def __post_init__(self) -> None:
        if self.max_fraction is not None and self.max_texts is not None:
            raise ConfigError("give max_fraction or max_texts of clustering, not both")


def measure_clustering(
    task: ClusteringTask,
    embedder: Embedder,
    config: ClusteringConfig = ClusteringConfig(),
    *,
    seed: int = 0,
) -> Measurement:
    """V-measure (the main one) and adjusted mutual information.

    The interval is that of the mean over experiments for ``bootstrapped``; for ``whole`` the
    texts are drawn anew under the clusters that were found.

    Raises:
        DataError: fewer than two groups.
    """
    if len(set(task.labels)) < 2:
        raise DataError(f"{task.name}: clustering needs at least two different labels")
    if config.protocol == "whole":
        return _measure_whole(task, embedder, config, seed)
    rng = random.Random(config.seed)
    rows = _drawn_rows(len(task.texts), config, rng)
    vectors = embedder.embed([task.texts[row] for row in rows])
    labels = np.asarray([task.labels[row] for row in rows])
    v_measures, informations = [], []
    for _ in range(config.num_experiments):
        chosen = rng.choices(range(len(rows)), k=config.texts_per_experiment)
        model = _k_means(len(set(labels.tolist())), config.batch_size or 512, config.seed, 1)
        found = model.fit_predict(vectors[chosen])
        v_measures.append(v_measure(labels[chosen], found))
        informations.append(adjusted_mutual_information(labels[chosen], found))
    values = np.asarray(v_measures)
    return Measurement(
        main_metric="v_measure",
        metrics={
            "v_measure": float(values.mean()),
            "v_measure_std": float(values.std()),
            "ami": float(np.mean(informations)),
        },
        interval=_of_experiments(values, seed),
        num_items=len(rows),
        per_query={"v_measure": {str(number): value for number, value in enumerate(v_measures)}},
    )


def _measure_whole(
    task: ClusteringTask, embedder: Embedder, config: ClusteringConfig, seed: int
) -> Measurement:
    vectors = embedder.embed(task.texts)
    labels = np.asarray(task.labels)
    model = _k_means(len(set(task.labels)), config.batch_size or 500, config.seed, "auto")
    found: NDArray[Any] = model.fit(vectors).labels_
    return Measurement(
        main_metric="v_measure",
        metrics={
            "v_measure": v_measure(labels, found),
            "ami": adjusted_mutual_information(labels, found),
        },
        interval=statistic_interval(
            len(labels),
            lambda rows: v_measure(labels[rows], found[rows]),
            seed=seed,
            num_samples=200,
        ),
        num_items=len(labels),
    )


def _drawn_rows(num_texts: int, config: ClusteringConfig, rng: random.Random) -> list[int]:
    if config.max_fraction is None and config.max_texts is None:
        return list(range(num_texts))
    limit = config.max_texts
    if config.max_fraction is not None:
        limit = int(config.max_fraction * num_texts)
    return rng.sample(range(num_texts), k=min(num_texts, limit or 0))


def _k_means(num_clusters: int, batch_size: int, seed: int, starts: int | str) -> Any:
    from sklearn.cluster import MiniBatchKMeans

    return MiniBatchKMeans(
        n_clusters=num_clusters,
        batch_size=batch_size,
        init="k-means++",
        n_init=starts,
        random_state=seed,
    )


def _of_experiments(values: NDArray[np.float64], seed: int) -> Interval:
    interval = statistic_interval(len(values), lambda rows: float(values[rows].mean()), seed=seed)
    return Interval(interval.mean, interval.low, interval.high, "clustering experiments only")
