"""The command `amae`: `amae.cli`, and one line where it is interrupted while that is still being loaded."""

import signal
import sys


def main() -> int:
    """Run the command line; returns the exit status."""
    try:
        from amae import cli

        return cli.main()
    except KeyboardInterrupt:
        print("amae: interrupted", file=sys.stderr)
        return 130
    finally:  # while Python ends, an interruption would print a traceback
        signal.signal(signal.SIGINT, signal.SIG_DFL)


if __name__ == "__main__":
    sys.exit(main())
