"""Incidents at one lab: what the log says of them, what this lab does about them, and who is told in the lab.

The timeline is folded by `sharing_protocol.incidents` from this home's own verified copy of the log (`reading`), so it
is the same at every lab. What the lab does is a signed record of its own (`acting`). What happened is passed on by the
hooks of `hooks.toml`, through an outbox that survives crashes (`notifying`).
"""

from member_client.incidents.reading import incident_timeline, incident_timelines

__all__ = ["incident_timeline", "incident_timelines"]
