"""The limit on requests a second."""

import bisect

from stand_in.messages import SECOND


class Limit:
    """Arrivals of one account and action.

    Connections are not served in the order in which their bytes arrived, so arrivals are kept sorted,
    and one is refused if any second that holds it now holds too many, be it a second that ends later.
    What may have come earlier is in a second only if all of its span of time is.
    """

    def __init__(self, limit: int):
        self.limit = limit
        self.arrivals: list[tuple[int, int]] = []       # (earliest, arrival)
        self.other = 0                                  # the last arrival of others

    def exceeded_by(self, arrival: int, earliest: int) -> bool:
        arrivals = self.arrivals
        bisect.insort(arrivals, (earliest, arrival))
        near = arrivals[bisect.bisect_left(arrivals, (arrival - SECOND + 1, 0)):
                        bisect.bisect_left(arrivals, (earliest + SECOND, 0))]
        exceeded = len(near) > self.limit and any(
            sum(last - first < SECOND for _, last in near[at:]) > self.limit
            for at, (first, _) in enumerate(near) if first <= earliest)
        del arrivals[:bisect.bisect_left(arrivals, (arrivals[-1][0] - 10 * SECOND, 0))]
        return exceeded

    def add_others(self, rate: int, until: int) -> None:
        """Arrivals of others, so many a second, evenly."""
        if rate:
            self.other = max(self.other, until - SECOND)
            while self.other + SECOND // rate <= until:
                self.other += SECOND // rate
                bisect.insort(self.arrivals, (self.other, self.other))
