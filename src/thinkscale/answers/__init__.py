"""From a text to an answer to a vote: extraction, canonical keys and equivalence classes."""

from thinkscale.answers.canonical import canonical, is_number
from thinkscale.answers.equivalence import Classes, Judge, same
from thinkscale.answers.extract import extract, kind_of
from thinkscale.answers.tools import called

__all__ = ["Classes", "Judge", "called", "canonical", "extract", "is_number", "kind_of", "same"]
