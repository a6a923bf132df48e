"""Recipes: each says what it needs when its data are not there, and has a page."""

import runpy
from pathlib import Path

import pytest

RECIPES = Path(__file__).parents[2] / "recipes"
READERS = [p for p in sorted(RECIPES.glob("*/run.py")) if "THINKSCALE_DATA" in p.read_text(encoding="utf-8")]


@pytest.mark.parametrize("path", READERS, ids=lambda p: p.parent.name)
def test_a_recipe_without_its_data_says_what_to_set(path, tmp_path, monkeypatch):
    monkeypatch.setenv("THINKSCALE_DATA", str(tmp_path))
    with pytest.raises(SystemExit, match="THINKSCALE_DATA"):
        runpy.run_path(str(path), run_name="__main__")
    assert (path.parent / "README.md").exists()
