"""`fastwrap run` as it is seen from outside: it starts an engine, stands before it, and leaves nothing behind."""
