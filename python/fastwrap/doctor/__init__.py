"""What serving needs, looked for without changing anything; every look has a time limit."""
