"""Training of one cell: the rules of accumulation, the loop, the order of samples, and several processes as one."""
