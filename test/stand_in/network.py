"""The network on the way to the API, and whoever else uses the account."""

import random
from typing import Any

from stand_in.messages import SECOND


class Network:
    """As the last order has it: {"network": {"delay": [0, 0.05], "stall": [0.1, 5], "others": 5}}.

    Each request arrives later by a random time between two numbers of seconds.  For the first so many seconds of each so
    many nothing arrives.  Others send so many requests a second, evenly, and count against every limit.
    """

    def __init__(self) -> None:
        self.obey({})

    def obey(self, order: dict[str, Any]) -> None:
        least, most = order.get("delay", (0, 0))
        length, period = order.get("stall", (0, 1))
        self.least, self.most = int(least * SECOND), int(most * SECOND)
        self.length, self.period = int(length * SECOND), int(period * SECOND)
        self.others = int(order.get("others", 0))

    def delay(self, sent: int) -> int:
        """How much later than it would a request arrives, in nanoseconds."""
        delay = random.randint(self.least, self.most)
        into = (sent + delay) % self.period
        return delay + (self.length - into if into < self.length else 0)
