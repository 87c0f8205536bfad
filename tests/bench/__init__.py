"""Tests of `fastwrap bench`: they run it for real, and assert answers and counts, never times."""
