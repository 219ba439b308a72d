"""Where jobs run: on this machine, on Slurm, on Ray. All yield the events of events.py; sweep/executors.py says which."""
