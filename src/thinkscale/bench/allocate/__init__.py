"""Planners: how to allocate test-time compute, learnt from pilot runs. One file per paper; none of them is a method."""
