"""Conformance suites for methods, scorers, rules and engines: what every built-in passes, and every plug-in should.

Each check raises `AssertionError` with a sentence that names the component and the guarantee that is broken. They need
no test framework, run when they are called, in a script, a test or where an event loop is running, and may be awaited.
From the command line it is `python -m thinkscale.testing ./mine.py:Doubt`.

>>> import thinkscale as ts
>>> done = check_method(ts.SelfConsistency(n=4))
"""

from thinkscale.testing.engine import check_engine
from thinkscale.testing.method import check_method
from thinkscale.testing.runs import BUDGETS, PROBLEM, talk
from thinkscale.testing.scorer import check_scorer
from thinkscale.testing.selector import check_selector
from thinkscale.testing.stop_rule import check_stop_rule

__all__ = [
    "BUDGETS",
    "PROBLEM",
    "check_engine",
    "check_method",
    "check_scorer",
    "check_selector",
    "check_stop_rule",
    "talk",
]
