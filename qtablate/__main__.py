"""`python -m qtablate`, and the command `qtablate`: deals with signals before the imports, which take a while, begin."""

from qtablate import interrupts


def main() -> None:
    """Run the command line; Ctrl-C, SIGTERM and SIGHUP end it with "Stopped" from the first moment on."""
    interrupts.leave_at_once()
    try:
        from qtablate.cli.main import main as run

        run()
    finally:
        interrupts.ignore()


if __name__ == "__main__":
    main()
