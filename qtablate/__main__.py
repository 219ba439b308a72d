"""`python -m qtablate`."""

from qtablate.cli import main

main()
