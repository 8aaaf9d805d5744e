"""Data: files of any format in, a stream of ``Pair`` and one honest mixture out; no torch."""
