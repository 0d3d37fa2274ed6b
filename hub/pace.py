"""How fast followers are told that the log has grown: as fast as the hub has time for, whoever else wants something.

Each follower who is told comes back at once with several requests: for the tree, the entries, and the next news. A few
are told at once. A crowd would leave no time for anything else; so it is told at a rate, and the rate follows the one
thing that says how busy this process really is, however fast its machine and whatever else runs there: how late its
own timers come. While they are punctual the rate rises; when one is late, because requests queue up, it falls at once.
Nobody has to be told of each growth, so a slow turn costs a follower some seconds of delay and no entries.
"""

AT_ONCE = 32
"""So many are told without a look at the rate, if nobody was told for a while."""
FIRST_RATE, LEAST_RATE, MOST_RATE = 200.0, 20.0, 1000.0
"""Followers a second: to begin with, when the hub is overwhelmed, and when it has nothing else to do."""
LOOK_SECONDS = 0.02
"""How often it is looked how late timers come, while anybody is told anything."""
LATE_SECONDS = 0.008
_RISE = 4.0
_FALL = 0.75
_QUIET_SECONDS = 2.0


class Pace:
    """Turns, a limited number in a time. Times are in seconds, of any one clock.

    Attributes:
        rate: turns a second.
    """

    def __init__(self, now: float) -> None:
        self.rate = FIRST_RATE
        self._turns = float(AT_ONCE)
        self._counted = now
        self._taken = now - _QUIET_SECONDS

    def take(self, now: float) -> bool:
        """Take a turn, if there is one."""
        self._turns = min(AT_ONCE, self._turns + (now - self._counted) * self.rate)
        self._counted = now
        if self._turns < 1:
            return False
        self._turns -= 1
        self._taken = now
        return True

    def is_quiet(self, now: float) -> bool:
        """Whether no turn was taken for so long that nobody has to look how late timers come."""
        return now - self._taken >= _QUIET_SECONDS

    def was_late(self, seconds: float) -> None:
        """Take note of how late a timer came."""
        if seconds > LATE_SECONDS:
            self.rate = max(LEAST_RATE, self.rate * _FALL)
            # What was saved up before is no claim on a hub that is busy now.
            self._turns = min(self._turns, 1.0)
        else:
            self.rate = min(MOST_RATE, self.rate + _RISE)
