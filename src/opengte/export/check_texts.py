"""Texts that exports are compared on: prose, code, scripts of many languages, odd characters."""

from __future__ import annotations

from collections.abc import Sequence

CHECK_TEXTS = (
    "a",
    "How do I read a JSON file?",
    "def parse(text: str) -> dict[str, int]:\n    return json.loads(text)",
    "The glacier lost 1.3 % of its mass in 2019; the ice at its foot melts first.",
    "通用文本嵌入模型可以用于检索、聚类和分类。",
    "Größe, façade, naïve, Čeština, Ελληνικά, русский, עברית, العربية, हिन्दी, 한국어",
    "🙂 emoji, tabs\tand\nline ends; NULL-ish \u200b spaces … and “quotes”",
    "SELECT name, count(*) FROM users WHERE age >= 18 GROUP BY name HAVING count(*) > 1;",
    "0x7fff 3.14159 1e-05 192.168.0.1 2026-11-21T14:07:00Z v1.2.3-rc4 ==== ---- ****",
    "To whom it may concern: the invoice of 3 March has not been paid. Please see to it that the "
    "sum reaches us within ten days, or tell us why it cannot.",
)


def of_many_lengths(texts: Sequence[str], *, max_tokens: int) -> list[str]:
    """``texts``, and runs of them that grow until the longest passes ``max_tokens``.

    A word is one token or more, so that ``max_tokens`` words are surely too long.
    """
    grown = list(texts)
    words = " ".join(texts).split()
    length = 24
    while length < 2 * max_tokens:
        repeated = words * (length // len(words) + 1)
        grown.append(" ".join(repeated[:length]))
        length *= 2
    repeated = words * (max_tokens // len(words) + 1)
    grown.append(" ".join(repeated[: max_tokens + 1]))
    return grown
