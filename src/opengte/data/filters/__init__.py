"""Filters: pairs in, the pairs worth training on out, and a counted reason for every other.

Those that need an encoder (consistency, a teacher's scores) live in ``opengte.mining``.
"""

from opengte.data.filters.apply import FiltersConfig, filter_pairs
from opengte.data.filters.containment import AnswerFilter, CopyFilter, contains_answer
from opengte.data.filters.contract import FilterReport, NegativeFilter, PairFilter
from opengte.data.filters.decontamination import (
    Contamination,
    DecontaminationConfig,
    Decontaminator,
)
from opengte.data.filters.duplicates import exact_duplicates, near_duplicates
from opengte.data.filters.language import LanguageFilter, detect_language
from opengte.data.filters.length import LengthFilter
from opengte.data.filters.repetition import RepetitionFilter
from opengte.data.filters.scores import ScoreFilter

__all__ = [
    "AnswerFilter",
    "Contamination",
    "CopyFilter",
    "DecontaminationConfig",
    "Decontaminator",
    "FilterReport",
    "FiltersConfig",
    "LanguageFilter",
    "LengthFilter",
    "NegativeFilter",
    "PairFilter",
    "RepetitionFilter",
    "ScoreFilter",
    "contains_answer",
    "detect_language",
    "exact_duplicates",
    "filter_pairs",
    "near_duplicates",
]
