"""The engine: runs episodes in parallel, each in a process that may be killed without costing another."""
