"""Where jobs run. An executor yields the events of events.py; a new one is a function with the signature of local.run_jobs."""
