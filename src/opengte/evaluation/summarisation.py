"""Machine summaries -> whether likeness to people's summaries orders them (MTEB's SummEval)."""

from __future__ import annotations

import numpy as np

from opengte.errors import DataError
from opengte.evaluation.measurement import Embedder, Measurement, unit
from opengte.evaluation.tasks import SummarisationTask
from opengte.metrics.bootstrap import clustered_interval
from opengte.metrics.correlation import pearson, spearman


def measure_summarisation(
    task: SummarisationTask, embedder: Embedder, *, seed: int = 0
) -> Measurement:
    """Mean over texts of the correlation with people's scores; Spearman of the cosine is main.

    A machine summary's score is its likeness to the nearest human one. Texts whose scores are all
    equal, on either side, order nothing and are left out, as in MTEB.

    Raises:
        DataError: no text is left.
    """
    human = embedder.embed([text for texts in task.human for text in texts])
    machine = embedder.embed([text for texts in task.machine for text in texts])
    ends = (np.cumsum([len(t) for t in task.human]), np.cumsum([len(t) for t in task.machine]))
    per_text: dict[str, dict[str, float]] = {}
    parts = zip(
        np.split(human, ends[0][:-1]), np.split(machine, ends[1][:-1]), task.scores, strict=True
    )
    for number, (people, machines, gold) in enumerate(parts):
        cosine = (unit(machines) @ unit(people).T).max(axis=1)
        dot = (machines @ people.T).max(axis=1)
        if min(len(set(values)) for values in (gold, cosine.tolist(), dot.tolist())) == 1:
            continue
        per_text[str(number)] = {
            "cosine_spearman": spearman(gold, cosine),
            "cosine_pearson": pearson(gold, cosine),
            "dot_spearman": spearman(gold, dot),
            "dot_pearson": pearson(gold, dot),
        }
    if not per_text:
        raise DataError(f"{task.name}: all summaries of each text score alike")
    names = next(iter(per_text.values()))
    per_query = {name: {key: row[name] for key, row in per_text.items()} for name in names}
    main = list(per_query["cosine_spearman"].values())
    return Measurement(
        main_metric="cosine_spearman",
        metrics={name: float(np.mean(list(values.values()))) for name, values in per_query.items()},
        interval=clustered_interval(main, seed=seed),
        num_items=len(main),
        per_query=per_query,
    )
