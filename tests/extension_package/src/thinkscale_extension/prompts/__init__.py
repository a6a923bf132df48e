"""Templates and criteria, one per file."""
