"""Starts proxies side by side, has ``fastwrap bench`` drive them in turns, and makes tables of what it says."""
