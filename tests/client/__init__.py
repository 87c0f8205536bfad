"""fastwrap for Python clients."""
