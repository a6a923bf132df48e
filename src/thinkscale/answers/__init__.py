"""From a text to an answer to a vote: extraction, canonical keys and equivalence classes.

`extract` finds the answer of a text. Its `key` is the *written* key that `canonical` makes: one tidy spelling, which is
its own key and from which its kind can be read again; units, signs and punctuation that matter stay in it. `read` says
what a key stands for: a kind, and a form that is equal for equal answers. `partition` sorts the keys of one vote into
classes, as a pure function of those keys; two answers are compared as a vote of two.

`kind_of` names the kind that a question asks for. A kind says what to look for first: an answer that is of another kind
is read by its look, so no kind ever loses an answer.
"""

from thinkscale.answers.canonical import canonical, is_number
from thinkscale.answers.equivalence import Classes, Judge, same
from thinkscale.answers.extract import extract
from thinkscale.answers.kinds import kind_of
from thinkscale.answers.tools import called

__all__ = ["Classes", "Judge", "called", "canonical", "extract", "is_number", "kind_of", "same"]
