"""The classes of one vote: which of its answers are one answer.

A pure function of the keys of the vote, whatever their order. Keys that are read alike are one class. Then what says
less joins what says more, where exactly one class of the vote fits: a decimal the number that it is a rounding of, a
number the quantity, a formula its equation, an ambiguous date the date. Where several fit, it stays a class of its own:
it never links two. At last keys that could not be computed are put to algebra, in the order of their rank, against one
representative of each class.

The cost is linear in the answers; only those that could not be computed cost more, up to a limit in pairs.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import ROUND_HALF_UP, Context, Decimal

from thinkscale.answers.algebra import Judge, Memory, Remembered, Verdict, default_judge, is_askable, verdicts
from thinkscale.answers.canonical import is_number
from thinkscale.answers.reading import Reading, Standing, read
from thinkscale.types import AnswerKind

MAX_PAIRS = 400
"""Pairs of a vote that algebra is asked about; what is beyond stays unknown."""
_STANDINGS = list(Standing)
_WIDE = Context(prec=60)


@dataclass(frozen=True, slots=True)
class Member:
    """A key of a class, and what brought it there."""

    key: str
    how: str
    """`stands for it`, `same value`, `rounded`, `says less` or `algebra`."""


@dataclass(frozen=True, slots=True)
class AnswerClass:
    """Keys that are one answer."""

    label: str
    """The key that stands for the class: the one of the lowest rank."""
    kind: AnswerKind
    members: tuple[Member, ...]


@dataclass(frozen=True, slots=True)
class Partition:
    """The classes of one vote."""

    labels: tuple[str, ...]
    """The label of each key's class, in the order of the keys."""
    classes: tuple[AnswerClass, ...]
    undecided: frozenset[tuple[str, str]] = frozenset()
    """Pairs of labels, sorted, that may be one answer: nobody could say."""

    def may_change(self, weights: Mapping[str, float]) -> bool:
        """Whether the winner could be another one if undecided classes were one; `weights` are by label."""
        leader = max(weights, key=lambda label: weights[label], default=None)
        if leader is None:
            return False
        gained = dict.fromkeys(weights, 0.0)
        for first, second in self.undecided:
            if leader not in (first, second):
                gained[first] = gained.get(first, 0.0) + weights.get(second, 0.0)
                gained[second] = gained.get(second, 0.0) + weights.get(first, 0.0)
        return any(gain and weights.get(label, 0.0) + gain >= weights[leader] for label, gain in gained.items())


@dataclass(slots=True)
class _Group:
    """Keys that are read alike, and the groups that joined them."""

    readings: dict[str, Reading] = field(default_factory=dict)
    joined: list[tuple[_Group, str]] = field(default_factory=list)
    home: _Group | None = None

    @property
    def first(self) -> str:
        return min(self.readings, key=lambda key: _rank(key, self.readings[key]))

    @property
    def reading(self) -> Reading:
        return self.readings[self.first]

    @property
    def fits(self) -> frozenset[str]:
        return frozenset.intersection(*(reading.fits for reading in self.readings.values()))

    @property
    def offers(self) -> frozenset[str]:
        return frozenset.intersection(*(reading.offers for reading in self.readings.values()))

    @property
    def places(self) -> int | None:
        """Decimal places where every key may be a rounding."""
        places = [reading.places for reading in self.readings.values()]
        return None if None in places else max(p for p in places if p is not None)

    def join(self, home: _Group, how: str) -> None:
        home.joined.append((self, how))
        self.home = home


class Vote:
    """The classes of one vote whose answers come in one by one.

    A key that was seen before costs nothing. A new one has the classes worked out anew, from readings that are kept.
    Not to be shared by votes: classes belong to the answers of one.
    """

    def __init__(
        self, kind: AnswerKind = AnswerKind.auto, judge: Judge | None = None, memory: Memory | None = None
    ) -> None:
        """`judge` decides what could not be computed, math-verify by default; `memory` keeps what it said."""
        self.kind = kind
        self._judge = judge
        self._memory = memory if memory is not None else Remembered()
        self._readings: dict[str, Reading] = {}
        self._labels: dict[str, str] = {}
        self._classes: tuple[AnswerClass, ...] = ()
        self._undecided: frozenset[tuple[str, str]] = frozenset()
        self.version = 0
        """Grows when a key that was taken in before gets another label, so that only then all are to be looked up."""

    def __contains__(self, key: str) -> bool:
        """Whether the label of a key is known."""
        return key in self._labels

    @property
    def undecided(self) -> bool:
        """Whether there are answers of which nobody could say whether they are one."""
        return bool(self._undecided)

    def settled(self, keys: Iterable[str]) -> bool:
        """Take keys in; whether their labels are known without asking algebra, so that `add` can be skipped."""
        fresh = self._take_in(keys)
        if fresh and not any(r.standing is Standing.opaque for r in self._readings.values()):
            self._conclude(_arrange(self._readings), frozenset())
        return self._labels.keys() == self._readings.keys()

    async def add(self, keys: Iterable[str]) -> None:
        """Take keys in and work the classes out, asking algebra where nothing else can say."""
        if self.settled(keys):
            return
        taken = dict(self._readings)
        groups, undecided = await _ask(_arrange(taken), self._judge or default_judge(), self._memory)
        if taken.keys() == self._readings.keys():
            self._conclude(groups, undecided)
        else:
            # Another task added keys meanwhile.
            await self.add(())

    def label(self, key: str) -> str:
        """The label of a key's class; a key that was not added stands for itself."""
        return self._labels.get(key, key)

    def partition(self, keys: Sequence[str]) -> Partition:
        """The classes as they are, with the labels of some keys."""
        return Partition(tuple(map(self.label, keys)), self._classes, self._undecided)

    def _take_in(self, keys: Iterable[str]) -> bool:
        fresh = [key for key in keys if key not in self._readings]
        self._readings.update((key, read(key, self.kind)) for key in fresh)
        return bool(fresh)

    def _conclude(self, groups: list[_Group], undecided: frozenset[tuple[str, str]]) -> None:
        homes = [group for group in groups if group.home is None]
        self._classes = tuple(sorted(map(_show, homes), key=lambda c: c.label))
        self._undecided = undecided
        labels = {member.key: each.label for each in self._classes for member in each.members}
        self.version += any(labels[key] != label for key, label in self._labels.items())
        self._labels = labels


async def partition(
    keys: Sequence[str],
    kind: AnswerKind = AnswerKind.auto,
    judge: Judge | None = None,
    memory: Memory | None = None,
) -> Partition:
    """The classes of a vote of these keys; `kind` is that of the question."""
    vote = Vote(kind, judge, memory)
    await vote.add(keys)
    return vote.partition(keys)


def _arrange(readings: Mapping[str, Reading]) -> list[_Group]:
    """The groups of what was computed, joined where exactly one fits, and of what was not."""
    groups: dict[str, _Group] = defaultdict(_Group)
    for key in sorted(readings):
        groups[readings[key].name].readings[key] = readings[key]
    found = [groups[name] for name in sorted(groups)]
    _join_rounded(found)
    _join_lesser(found)
    return found


def _join_rounded(groups: list[_Group]) -> None:
    # A decimal may be the rounding of one number of the vote that is not such a decimal itself.
    rounded = [(group, places) for group in groups if (places := group.places) is not None]
    if not rounded:
        return
    full = [
        g for g in groups if g.places is None and g.reading.value is not None and g.reading.kind is AnswerKind.number
    ]
    for places in {places for _, places in rounded}:
        by_value: dict[Decimal, list[_Group]] = defaultdict(list)
        for group in full:
            if (value := _at(group.reading.value, places)) is not None:
                by_value[value].append(group)
        for group, own in rounded:
            fitting = by_value.get(_at(group.reading.value, own) or Decimal(0), []) if own == places else []
            if len(fitting) == 1:
                group.join(fitting[0], "rounded")


def _join_lesser(groups: list[_Group]) -> None:
    offering: dict[str, list[_Group]] = defaultdict(list)
    for group in groups:
        for offer in group.offers:
            offering[offer].append(group)
    if not offering:
        return
    for group in groups:
        if group.home is None and (fits := group.fits):
            fitting = {id(g): g for fit in fits for g in offering.get(fit, ()) if g is not group}
            if len(fitting) == 1:
                group.join(next(iter(fitting.values())), "says less")


async def _ask(groups: list[_Group], judge: Judge, memory: Memory) -> tuple[list[_Group], frozenset[tuple[str, str]]]:
    """The groups after algebra was asked about what was not computed, and the pairs on which nobody could say."""
    opaque = [group for group in groups if group.reading.standing is Standing.opaque]
    standing = [group for group in groups if group.home is None and group.reading.standing is not Standing.opaque]
    standing.sort(key=lambda group: _rank(group.first, group.reading))
    asked, unsaid = 0, []
    for group in sorted(opaque, key=lambda group: _rank(group.first, group.reading)):
        rivals = [rival for rival in standing if _comparable(group.reading, rival.reading)]
        near = [rival for rival in rivals if is_askable(rival.first) and is_askable(group.first)][: MAX_PAIRS - asked]
        asked += len(near)
        said = dict(
            zip(map(id, near), await verdicts(judge, memory, [(group.first, r.first) for r in near]), strict=True)
        )
        same = [rival for rival in near if said[id(rival)] is Verdict.same]
        if len(same) == 1:
            group.join(same[0], "algebra")
            continue
        unsaid += [(group, rival) for rival in rivals if said.get(id(rival)) is not Verdict.different]
        standing.append(group)
    return groups, frozenset(_sort(a.first, b.first) for a, b in unsaid)


def _comparable(a: Reading, b: Reading) -> bool:
    return a.kind in _ALGEBRAIC and b.kind in _ALGEBRAIC


_ALGEBRAIC = frozenset(
    {AnswerKind.number, AnswerKind.expression, AnswerKind.relation, AnswerKind.list, AnswerKind.matrix}
)


def _sort(a: str, b: str) -> tuple[str, str]:
    return (min(a, b), max(a, b))


def _at(value: Decimal | None, places: int) -> Decimal | None:
    if value is None or not value.is_finite() or value.adjusted() + places > 50:
        return None
    return value.quantize(Decimal(1).scaleb(-places), ROUND_HALF_UP, _WIDE)


def _rank(key: str, reading: Reading) -> tuple[int, bool, int, str]:
    return (_STANDINGS.index(reading.standing), not is_number(key), len(key), key)


def _show(group: _Group) -> AnswerClass:
    members = [Member(key, "same value") for key in sorted(group.readings) if key != group.first]
    for other, how in sorted(group.joined, key=lambda pair: pair[0].first):
        members += [Member(key, how) for key in sorted(other.readings)]
        members += [Member(key, deeper) for third, deeper in other.joined for key in sorted(third.readings)]
    return AnswerClass(group.first, group.reading.kind, (Member(group.first, "stands for it"), *members))
