"""Entry point of `python -m nmg`."""

from nmg.cli import main

if __name__ == "__main__":
    main()
