"""Servers that the HTTP engine is tried against: one that behaves, one that does not, and a real one."""
