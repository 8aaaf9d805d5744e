"""Where the pipeline's encoders remember: the search room's cache, one folder a run."""

from __future__ import annotations

from opengte.search.cached_encoder import CachedEncoder

__all__ = ["CachedEncoder"]
