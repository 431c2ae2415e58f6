"""Writes the page and the plot of what `bench.py` measured.

Goes in: its JSON. Comes out: `benchmarks-provision.md` and `benchmarks-provision.svg`. Every ratio
is of figures that were measured in one run.
"""

import json
import pathlib
import sys

from bench import TOOLS

FIGURES = {"first": "first run", "nothing": "nothing to do", "changed": "one changed variable"}
COLOURS = ("#1b7f5c", "#5bb894", "#c99700", "#9a6fb0", "#b5443b")
BAR, GAP, LEFT, WIDTH = 16, 6, 190, 520

INTRODUCTION = """# Benchmarks of the provisioner

One command measures `provision` beside Ansible (facts off, pipelining, as many forks as hosts, kept
connections), Ansible with Mitogen, and pyinfra, on the same throw-away hosts in one run, and writes
this page, its plot and the figures behind both (`benchmarks-provision.json`):

```sh
scripts/bench-provision                      # 1 and 10 hosts, five times each
scripts/bench-provision --quick              # once each
scripts/bench-provision --hosts 40           # another number; the other rows stay as they are
```

![Seconds of each tool](benchmarks-provision.svg)

The 23 tasks are an account, five directories, a program of 20 MB that does not compress, five
templates, four files, three kernel parameters, a package, a unit and its service:
`benchmarks/provisioner/playbooks`, `ansible` and `pyinfra` beside it, with the same templates. All
tools come from PyPI in the versions of `requirements.txt`. After each first run and each change,
pytest-testinfra, which knows none of them, checks every host. The floor is as many fresh SSH
connections in parallel as there are hosts, each with one execution of a script of 60 `stat`s,
measured before and after each tool.

Contents are hashed again in every run, the program of 20 MB too; there is no mode that trusts
inode and ctime. A file can change beneath both (a disk that returns other bytes, a device that was
written to, an image that was put back), and hashing is not what a run without changes waits for.
"""

ROUND_TRIPS = """
### 50 ms each way, nothing to do

One host behind a line with a delay (`benchmarks/provisioner/delay.py`), where the same run was
timed with 250 ms each way as well. Round trips are counted twice, both times from outside:

- by the line: a flight of bytes from the client, and an answer that can be one to it. What nobody
  answers, such as the words with which the client ends its session, is none.
- by the clock: the seconds that the longer delay adds, divided by what it adds to one round trip.
  This is what the run waits for, whatever passes over the line.

The round trips are those of the run with the most, the seconds those of the fastest one, as what
else the machine does only adds to them. A tenth or two by the clock is still that.

A fresh connection has them for TCP, the banners, the key exchange, the service, the question which
ways in there are, the key that is offered, the key that signs, the channel, the execution, the
facts, and the end of the helper; a kept one for the last four.

| resources, connection | new connections | round trips by the line | by the clock | seconds | seconds with 250 ms |
|---|---:|---:|---:|---:|---:|
"""


def table(row: dict) -> str:
    floor = row["floor"]
    lines = ["| | " + " | ".join(FIGURES.values()) + " | nothing to do ÷ floor |", "|---|" + "---:|" * 4]
    base = row.get("provision")
    for tool in TOOLS:
        figures = row.get(tool)
        if not figures:
            continue
        cells = []
        for key in FIGURES:
            text = f"{figures[key]:.2f} s"
            if base and tool != "provision":
                text += f" ({figures[key] / base[key]:.1f} ×)"
            cells.append(text)
        cells.append(f"{figures['nothing'] / figures['floor']:.2f}")
        lines.append(f"| {tool} | " + " | ".join(cells) + " |")
    lines.append(f"| floor | | {floor:.2f} s | | 1 |")
    return "\n".join(lines)


def plot(rows: dict) -> str:
    parts, y = [], 20
    for hosts, row in rows.items():
        for key, title in FIGURES.items():
            parts.append(f'<text x="0" y="{y}" font-weight="bold">{hosts} hosts, {title}</text>')
            y += 8
            known = [tool for tool in TOOLS if tool in row]
            largest = max(row[tool][key] for tool in known)
            for tool in known:
                seconds = row[tool][key]
                width = max(1.0, seconds / largest * WIDTH)
                colour = COLOURS[TOOLS.index(tool)]
                parts.append(
                    f'<text x="{LEFT - 8}" y="{y + 13}" text-anchor="end">{tool}</text>'
                    f'<rect x="{LEFT}" y="{y}" width="{width:.1f}" height="{BAR}" fill="{colour}"/>'
                    f'<text x="{LEFT + width + 6:.1f}" y="{y + 13}">{seconds:.2f} s</text>'
                )
                y += BAR + GAP
            y += 24
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {LEFT + WIDTH + 90} {y}" '
        'font-family="sans-serif" font-size="13">'
        f'<rect width="100%" height="100%" fill="white"/>{"".join(parts)}</svg>\n'
    )


def main() -> None:
    results = json.loads(pathlib.Path(sys.argv[1]).read_text())
    documents = pathlib.Path(sys.argv[2])
    rows = dict(sorted(results["rows"].items(), key=lambda item: int(item[0])))
    text = INTRODUCTION
    times = results["repetitions"]
    text += f"\n## Figures\n\n{results['machine']} "
    text += "Each figure was measured once.\n" if times == 1 else f"Medians of {times}.\n"
    text += (
        "Compare the tools with one another, each with the floor that was measured around it, and\n"
        "not with other machines.\n"
    )
    for hosts, row in rows.items():
        text += f"\n### {hosts} {'host' if hosts == '1' else 'hosts'}\n\n{table(row)}\n"
    trips = results.get("round_trips")
    if trips:
        text += ROUND_TRIPS
        for name, found in trips.items():
            text += (
                f"| {name.replace(' ', ', ')} | {found['connections']} | {found['round_trips']} "
                f"| {found['waited_for']:.1f} | {found['seconds']:.2f} "
                f"| {found['long_seconds']:.2f} |\n"
            )
    many = results.get("many")
    if many:
        text += (
            "\n### 1,000 hosts with 100 resources each\n\n`provision plan`, with the answers of one "
            "host recorded and given by a helper for each of the\n1,000 (`recorded_host`, an example of "
            "`provision-protocol`): everything but SSH.\n\n"
            "| | seconds | peak memory |\n|---|---:|---:|\n"
        )
        for key, found in many.items():
            text += f"| {FIGURES[key]} | {found['seconds']:.2f} | {found['peak_mib']:.0f} MiB |\n"
    (documents / "benchmarks-provision.md").write_text(text)
    (documents / "benchmarks-provision.svg").write_text(plot(rows))


if __name__ == "__main__":
    main()
