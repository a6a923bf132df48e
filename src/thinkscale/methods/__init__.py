"""Methods: one paper, one file, reading as its pseudocode. `docs/papers.md` has a row for each."""
