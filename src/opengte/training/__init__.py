"""Stream of batches -> a better encoder: steps, schedules, checkpoints, any number of ranks."""
