"""``python -m opengte`` is ``gte``."""

from opengte.cli.main import main

if __name__ == "__main__":
    main()
