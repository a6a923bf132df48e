"""Greedy clustering by similarity."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from thinkscale.clusters import cluster

EXAMPLE = [
    [1.0, 0.0, 0.0, 0.0],
    [0.9, 1.0, 0.0, 0.0],
    [0.2, 0.3, 1.0, 0.0],
    [0.7, 0.4, 0.6, 1.0],
]


def test_the_worked_example_has_its_two_clusters():
    assert cluster(EXAMPLE, threshold=0.5) == [[0, 1], [2, 3]]


def test_only_the_first_members_of_a_cluster_are_compared_with():
    assert cluster(EXAMPLE, threshold=0.5, probe=1) == [[0, 1, 3], [2]]


def test_once_there_are_as_many_clusters_as_may_be_the_most_similar_one_is_joined():
    assert cluster(EXAMPLE, threshold=0.5, max_clusters=1) == [[0, 1, 2, 3]]
    assert cluster([[1.0] * 4] * 4, threshold=1.0, max_clusters=2) == [[0, 2, 3], [1]]


def test_a_mean_at_the_threshold_is_not_above_it():
    assert cluster([[1.0, 0.0], [0.5, 1.0]], threshold=0.5) == [[0], [1]]


@pytest.mark.parametrize("n", [0, 1])
def test_few_things_are_few_clusters(n):
    assert cluster([[1.0] * n] * n) == [[0]] * n


@given(st.lists(st.integers(0, 3), max_size=12))
def test_where_things_are_alike_or_not_the_clusters_are_the_classes(labels):
    found = cluster([[float(a == b) for b in labels] for a in labels])
    assert sorted(i for c in found for i in c) == list(range(len(labels)))
    assert [labels[c[0]] for c in found] == list(dict.fromkeys(labels))
    assert all(len({labels[i] for i in c}) == 1 for c in found)
