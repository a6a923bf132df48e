"""The session: the only way a method spends compute.

`verbs.py` has what methods call. Beneath it, each file uses only those that follow:

- `waves.py`: draws of one prompt under a stop rule
- `nested.py`: attempts that are drawn through other methods
- `scoring.py`: likelihoods and rewards, which generate nothing
- `calls.py`: calls to an engine, admitted in draw order and made at once
- `effects.py`: work outside of any model
- `starts.py`: from prompts and traces to where draws begin
- `said.py`: what an attempt answers in its own words
- `watch.py`: what is done with the pieces of a growing draw
- `place.py`: engine, account, role and path of one session
- `run.py`: what all sessions of a run share
- `flight.py`: one request: replayed, asked for, retried
- `landing.py`: places of an engine, results for one consumer
"""

from thinkscale.session.place import DEFAULT_MAX_TOKENS, Place
from thinkscale.session.run import Event, Run
from thinkscale.session.verbs import Method, Session, attempt_ceiling
from thinkscale.session.waves import Draws

__all__ = ["DEFAULT_MAX_TOKENS", "Draws", "Event", "Method", "Place", "Run", "Session", "attempt_ceiling"]
