"""True labels and cluster numbers -> how alike the two partitions are (scikit-learn's figures)."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike


def v_measure(labels: ArrayLike, clusters: ArrayLike) -> float:
    """Harmonic mean of homogeneity and completeness, in [0, 1] (Rosenberg & Hirschberg 2007)."""
    from sklearn.metrics import v_measure_score

    return float(v_measure_score(labels, clusters))


def adjusted_mutual_information(labels: ArrayLike, clusters: ArrayLike) -> float:
    """Mutual information over chance; 1 for equal partitions, about 0 for random ones."""
    from sklearn.metrics import adjusted_mutual_info_score

    return float(adjusted_mutual_info_score(labels, clusters))


def normalised_mutual_information(labels: ArrayLike, clusters: ArrayLike) -> float:
    """Mutual information over the mean entropy, in [0, 1]; the same number as V-measure."""
    from sklearn.metrics import normalized_mutual_info_score

    return float(normalized_mutual_info_score(labels, clusters))


def adjusted_rand_index(labels: ArrayLike, clusters: ArrayLike) -> float:
    """Share of text pairs on which both partitions agree, over chance; at most 1."""
    from sklearn.metrics import adjusted_rand_score

    return float(adjusted_rand_score(labels, clusters))


def cluster_accuracy(labels: ArrayLike, clusters: ArrayLike) -> float:
    """Accuracy under the best one-to-one naming of clusters (Hungarian method), in [0, 1]."""
    from scipy.optimize import linear_sum_assignment
    from sklearn.metrics.cluster import contingency_matrix

    table = contingency_matrix(labels, clusters)
    rows, columns = linear_sum_assignment(table, maximize=True)
    return float(table[rows, columns].sum() / np.sum(table))
