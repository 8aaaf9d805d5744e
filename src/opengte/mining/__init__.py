"""An encoder and a corpus -> harder pairs: hard negatives, consistency and teacher filters."""
