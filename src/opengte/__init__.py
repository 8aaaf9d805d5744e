"""General text embeddings by multi-stage contrastive learning (GTE and its family)."""

from __future__ import annotations

__version__ = "0.1.0"
