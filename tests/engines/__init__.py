"""Acceptance through real inference engines with a tiny model."""
