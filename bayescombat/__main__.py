"""``python -m bayescombat`` is ``bayescombat``."""

from bayescombat.cli import main

if __name__ == "__main__":
    main()
