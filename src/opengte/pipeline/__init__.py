"""A recipe comes in -> its stages run, each once, into a run folder."""
