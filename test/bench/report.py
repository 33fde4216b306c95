"""What was measured: printed as it comes, and written as Markdown and plots in the end."""

import os
import platform
import re
import statistics
import subprocess
from html import escape

PARTS = {
    "drain": "Drain, the limit lifted",
    "others": "Against what people use instead",
    "latency": "Latency, from commit to arrival",
    "enqueue": "Enqueueing",
    "flat": "Flat, as the table grows",
    "limit": "At the account's limit",
    "call": "The call",
    "idle": "Idle",
}

# What comes before all tables: of a part, a sentence with figures and targets, by how their names begin.
HEADLINES = [
    ("limit", "Used of the account's limit of 20 requests a second: **{}**. Most requests in any second: {}.",
     ["a limit of 20 a second, 0 sessions calling: used", "a limit of 20 a second, 0 sessions calling: most"]),
    ("latency", "From the commit of a row to the arrival of its request: **{}**. As a multiple of an empty commit and a bare call: {}.",
     ["**commit to arrival, median", "median over "]),
    ("drain", "Sent with the limit lifted: **{}**. As a share of what the database and libcurl allow: {}.",
     ["**drain of ", "drain over HTTP/2, of what its parts allow"]),
]


def number(x):
    """In three digits, or all of those before the point."""
    if x == 0 or abs(x) >= 100:
        return f"{x:,.0f}"
    return f"{x:.3g}"


def judged(x, aim):
    """So that it does not read as the aim unless it is."""
    return f"{x:.4g}" if x != aim and number(x) == number(aim) else number(x)


def spread(runs):
    return f"{number(min(runs))} to {number(max(runs))}" if len(runs) > 1 else ""


def first_line(*command):
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                          encoding="utf-8").stdout.splitlines()[0]


def machine():
    """What was measured on, and with."""
    with open("/proc/cpuinfo", encoding="utf-8") as file:
        model = re.search(r"^model name\s*: (.*)$", file.read(), re.MULTILINE)
    with open("/proc/meminfo", encoding="utf-8") as file:
        memory = int(file.readline().split()[1]) / 1024 / 1024
    with open("/etc/os-release", encoding="utf-8") as file:
        release = re.search(r'^PRETTY_NAME="(.*)"$', file.read(), re.MULTILINE)
    return ", ".join([
        f"{os.cpu_count()} cores of {model[1] if model else platform.machine()}", f"{memory:.0f} GiB",
        release[1] if release else platform.system(), f"Linux {platform.release()}",
        "PostgreSQL " + first_line(f"{os.environ['BINDIR']}/postgres", "--version").split()[2],
        "libcurl " + first_line("pkg-config", "--modversion", "libcurl"),
        first_line("nginx", "-v").split(": ")[1].replace("/", " "),
        "Node.js " + first_line("node", "--version").lstrip("v")])


class Report:
    def __init__(self):
        self.parts = {}
        self.part = None
        self.load = []

    def begin(self, part):
        self.part = part
        self.parts[part] = {"figures": [], "targets": []}
        self.load.append(os.getloadavg()[0])

    def figures(self, what, unit, runs, cpu=None):
        """The same, measured several times; with the CPU seconds that one took."""
        runs = list(runs)
        median = statistics.median(runs)
        us = statistics.median(cpu) * 1e6 if cpu else None
        self.parts[self.part]["figures"].append((what, unit, runs, us))
        print(f"  {what.replace('*', ''):66} {number(median):>8} {unit:11}"
              f" {spread(runs):20}"
              f" {f'{us:.0f} us' if us else ''}", flush=True)

    def target(self, what, runs, relation, aim, unit=""):
        """What is to be reached: measured once, or in several turns."""
        runs = runs if isinstance(runs, list) else [runs]
        reached = statistics.median(runs)
        met = reached >= aim if relation == "at least" else reached <= aim
        self.parts[self.part]["targets"].append((what, runs, relation, aim, unit, met))
        print(f"  {what:66} {judged(reached, aim) + unit:>8}   {relation} {number(aim)}{unit}:"
              f" {'met' if met else 'MISSED'}", flush=True)

    def sum(self):
        met = [target[-1] for part in self.parts.values() for target in part["targets"]]
        return f"{sum(met)} of {len(met)} targets are met."

    def headlines(self):
        """The three figures that matter most, each with what became of its target; of the parts that were measured."""
        for name, sentence, prefixes in HEADLINES:
            part = self.parts.get(name, {"figures": [], "targets": []})
            said = [(what, f"{number(statistics.median(runs))} {unit}") for what, unit, runs, _ in part["figures"]]
            said += [(what, f"{judged(statistics.median(runs), aim)}{unit} ({relation} {number(aim)}{unit}: {'met' if is_met else 'missed'})")
                     for what, runs, relation, aim, unit, is_met in part["targets"]]
            found = [next((text for what, text in said if what.startswith(prefix)), None) for prefix in prefixes]
            if None not in found:
                yield "- " + sentence.format(*found)

    def missed(self):
        names = [target[0] for part in self.parts.values() for target in part["targets"] if not target[-1]]
        return f" Missed: {'; '.join(names)}." if names else ""

    def write(self, folder, command):
        os.makedirs(folder, exist_ok=True)
        with open(f"{folder}/benchmark.md", "w", encoding="utf-8") as file:
            file.write(self.markdown(command))
        for part in self.parts:
            with open(f"{folder}/benchmark_{part}.svg", "w", encoding="utf-8") as file:
                file.write(plot(PARTS[part], self.parts[part]["figures"]))

    def markdown(self, command):
        lines = [
            "# Benchmark", "", *self.headlines(), "", self.sum() + self.missed(), "",
            f"Made by `{command}`, on {machine()}.", "",
            "Everything runs on one machine, over loopback and TLS. The peer is an nginx that does not look at what it is sent;"
            " where a network is imitated, it is the stand-in of the API. fsync and synchronous_commit are on.", "",
            "Figures are medians, with the lowest and the highest of the runs. Each target is a ratio of figures of the same"
            " run, which were measured in turns. CPU is that of all processes but the peer. The load of the machine was"
            f" {min(self.load):.1f} to {max(self.load):.1f} as the parts began.", ""]
        for name, part in self.parts.items():
            lines += [f"## {PARTS[name]}", "", f"![{PARTS[name]}](benchmark_{name}.svg)", "",
                      "| | median | | lowest to highest | runs | CPU |", "|---|--:|---|---|--:|--:|"]
            for what, unit, runs, us in part["figures"]:
                lines.append(f"| {what} | {number(statistics.median(runs))} | {unit} | {spread(runs)} | {len(runs)} |"
                             f" {f'{us:.0f} µs' if us else ''} |")
            lines += ["", "| target | reached | lowest to highest | aim | |", "|---|--:|---|---|---|"]
            for what, runs, relation, aim, unit, is_met in part["targets"]:
                lines.append(f"| {what} | {judged(statistics.median(runs), aim)}{unit} | {spread(runs)} |"
                             f" {relation} {number(aim)}{unit} |"
                             f" {'met' if is_met else '**missed**'} |")
            lines.append("")
        with open(f"{os.path.dirname(__file__)}/notes.md", encoding="utf-8") as file:
            return "\n".join(lines) + "\n" + file.read()


def plot(title, figures):
    """Bars, of each unit to a scale of its own; a line from the lowest run to the highest."""
    row, label_width, bar_width = 24, 430, 380
    # Long labels begin to the left of 0.
    left = min(0, label_width - 12 - 7 * max((len(what.strip("*")) for what, *_ in figures), default=0))
    width = 960 - left
    height = 48 + row * len(figures)
    most = {}
    for _, unit, runs, _ in figures:
        most[unit] = max(most.get(unit, 0), *runs)
    out = [f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="{left} 0 {width} {height}" width="{width}" height="{height}"'
           ' font-family="sans-serif" font-size="13">',
           f'<rect x="{left}" width="{width}" height="{height}" fill="#fff"/>',
           f'<text x="{12 + left}" y="26" font-size="16" font-weight="bold">{escape(title)}</text>']
    for i, (what, unit, runs, _) in enumerate(figures):
        y = 44 + row * i
        scale = bar_width / (most[unit] or 1)
        median = statistics.median(runs)
        ours = what.startswith("**")
        out.append(f'<text x="{label_width}" y="{y + 14}" text-anchor="end"{" font-weight=" + chr(34) + "bold" + chr(34) if ours else ""}>'
                   f'{escape(what.strip("*"))}</text>')
        out.append(f'<rect x="{label_width + 10}" y="{y + 3}" width="{median * scale:.1f}" height="14"'
                   f' fill="{"#1f6feb" if ours else "#9aa4b2"}"/>')
        if len(runs) > 1:
            out.append(f'<line x1="{label_width + 10 + min(runs) * scale:.1f}" x2="{label_width + 10 + max(runs) * scale:.1f}"'
                       f' y1="{y + 10}" y2="{y + 10}" stroke="#111" stroke-width="1.5"/>')
        end = max(median, max(runs)) * scale
        out.append(f'<text x="{label_width + 16 + end:.1f}" y="{y + 14}">{number(median)} {escape(unit)}</text>')
    out.append("</svg>\n")
    return "\n".join(out)
