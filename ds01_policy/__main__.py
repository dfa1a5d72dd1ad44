"""`python -m ds01_policy`."""

from ds01_policy.cli import main

if __name__ == "__main__":
    main()
