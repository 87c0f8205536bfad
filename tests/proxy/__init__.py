"""fastwrap as it is seen from outside: real processes, real sockets, an engine that does what a test says."""
