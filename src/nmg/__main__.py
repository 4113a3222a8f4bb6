"""`python -m nmg`: the command line."""

from nmg.cli import main

if __name__ == "__main__":
    main()
