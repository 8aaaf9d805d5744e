"""Readers: files of any format in, streams of ``Pair`` or ``Document`` out, nothing lost silently.

Every reader is one small function in a file of its own; dictionaries name them: ``PAIR_FORMATS``
(files and dumps), ``LAYOUTS`` (field names of rows), ``SECTION_READERS`` (raw documents) and
``GRAMMARS`` (source code).
"""

from opengte.data.readers.bad_rows import BadRows, OnBadRow
from opengte.data.readers.beir import BeirFolder, read_beir, read_qrels
from opengte.data.readers.documents import read_documents
from opengte.data.readers.hf_datasets import read_hf_pairs, read_mteb_pairs
from opengte.data.readers.pair_files import PAIR_FORMATS, read_pairs
from opengte.data.readers.python_pairs import PythonFile, read_python_file
from opengte.data.readers.python_source import Function, read_functions
from opengte.data.readers.report import ReadReport
from opengte.data.readers.source import KINDS, read_source, read_source_documents
from opengte.data.readers.tree import SourceFile, read_tree

__all__ = [
    "KINDS",
    "PAIR_FORMATS",
    "BadRows",
    "BeirFolder",
    "Function",
    "OnBadRow",
    "PythonFile",
    "ReadReport",
    "SourceFile",
    "read_beir",
    "read_documents",
    "read_functions",
    "read_hf_pairs",
    "read_mteb_pairs",
    "read_pairs",
    "read_python_file",
    "read_qrels",
    "read_source",
    "read_source_documents",
    "read_tree",
]
