"""``python -m isogloss``: the command line."""

from isogloss.service.cli.main import main

if __name__ == "__main__":
    main()
