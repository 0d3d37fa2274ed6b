"""A small local decision service for API gateways: is this account to pass, to be slowed down or to be stopped?

A gate acts on a snapshot of what is in effect (`snapshot`), held in memory as one sorted block (`table`), made by a
child process (`building`) whenever the lab's files change (`sources`, `live`). A verdict is a function of the table,
the request and the time (`verdict`). `answering`, `http_protocol` and `serving` put it behind HTTP, for Envoy's
ext_authz and nginx's auth_request.
"""

from member_client.gate.live import Condition, Gate
from member_client.gate.settings import GateSettings
from member_client.gate.verdict import Verdict

__all__ = ["Condition", "Gate", "GateSettings", "Verdict"]
