"""``python -m densefield``: the command line."""

from densefield.cli import main

if __name__ == "__main__":
    main()
