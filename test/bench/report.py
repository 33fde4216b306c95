"""What was measured: printed as it comes, and written as Markdown and plots in the end."""

import os
import statistics


def number(x):
    """In three digits, or all of those before the point."""
    if x == 0 or abs(x) >= 1000:
        return f"{x:,.0f}"
    return f"{x:.3g}" if abs(x) < 100 else f"{x:.0f}"


class Report:
    def __init__(self):
        self.rows = []
        self.targets = []

    def figures(self, what, unit, runs, cpu=None):
        """The same, measured several times; with the CPU seconds that one took."""
        median = statistics.median(runs)
        spread = f"{number(min(runs))} to {number(max(runs))}" if len(runs) > 1 else ""
        us = f"{statistics.median(cpu) * 1e6:.0f} us" if cpu else ""
        self.rows.append((what, number(median), unit, spread, str(len(runs)), us))
        print(f"  {what.replace('*', ''):60} {number(median):>10} {unit:12} {spread:22} {us}", flush=True)

    def target(self, point, what, reached, relation, aim, unit=""):
        met = reached >= aim if relation == "at least" else reached <= aim
        self.targets.append((point, what, number(reached) + unit, f"{relation} {number(aim)}{unit}", met))
        print(f"  {point}. {what:57} {number(reached) + unit:>10}   {relation} {number(aim)}{unit}:"
              f" {'met' if met else 'MISSED'}", flush=True)

    def finish(self, folder):
        os.makedirs(folder, exist_ok=True)
