"""The `stillwatch` command.

Exit codes: 0 done; 2 usage or invalid input; 3 refused by the hub; 4 hub unreachable; 5 verification failed (the hub
or an author misbehaved). One module a command group; each reads its arguments, calls the library, and reports.
"""

from member_client.cli.main import app, main

__all__ = ["app", "main"]
