"""Plugins that come with fastwrap, one a file; each is named with ``--plugin`` where it is wanted."""
