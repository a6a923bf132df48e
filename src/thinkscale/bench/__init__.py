"""Experiments: tasks, runs over them, estimators and statistics of what was recorded; reference answers live here."""
