"""Stop rules on recorded answers of the Best-of-infinity release: right answers, samples and tokens of each."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from thinkscale.bench.stopping import RULES, Recorded, canonical, comparison, recorded, spent

SLICE = Path(__file__).resolve().parents[2] / "tests" / "data" / "recorded" / "boinf_aime25_30x40.jsonl"
PUBLISHED: dict[str, dict[int, tuple[int, int, int]]] = {
    "SC@1": {30: (21, 30, 300183), 500: (465, 500, 935128), 198: (133, 198, 865701)},
    "SC@5": {30: (25, 150, 1770891), 500: (474, 2500, 4732438), 198: (138, 990, 4697483)},
    "SC@16": {30: (27, 480, 5407722), 500: (478, 8000, 14930581), 198: (143, 3168, 15047166)},
    "SC@40": {30: (27, 1200, 14306612), 500: (477, 20000, 36023731), 198: (142, 7920, 37237076)},
    "SC@80": {30: (27, 2400, 28138015), 500: (476, 40000, 69401375), 198: (141, 15840, 71868948)},
    "ahead-by-2": {30: (26, 109, 1895934), 500: (475, 1155, 3197306), 198: (141, 693, 4901082)},
    "ahead-by-3": {30: (27, 254, 4528710), 500: (478, 1808, 4818336), 198: (141, 1301, 9313927)},
    "ahead-by-4": {30: (27, 308, 5402458), 500: (477, 2483, 6687838), 198: (143, 1895, 13486922)},
    "AC .95": {30: (27, 380, 6286507), 500: (477, 2879, 8672312), 198: (143, 2771, 20262749)},
    "ESC w=5": {30: (27, 580, 9633123), 500: (476, 3990, 12905494), 198: (140, 3760, 25449366)},
    "BF code, B=10": {30: (28, 181, 2959568), 500: (478, 1783, 4597309), 198: (141, 1298, 9078068)},
    "BF code, B=100": {30: (27, 517, 9131848), 500: (476, 4206, 11997191), 198: (141, 4520, 32817953)},
    "BF paper, B=10": {30: (26, 114, 2102344), 500: (476, 1182, 3532657), 198: (141, 819, 6146468)},
    "BF paper, B=100": {30: (27, 479, 8343477), 500: (476, 3662, 10647413), 198: (141, 4319, 31436438)},
}
"""Right answers, samples and tokens of gpt-oss-20b in the order of the files, by their number of questions."""
SETS = {30: "AIME 2025", 500: "MATH-500", 198: "GPQA-Diamond"}


def sliced(path: Path) -> list[Recorded]:
    """The committed part of that file: answers without tokens, and of most questions the first 40 alone."""
    rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    return [
        Recorded(
            answers=tuple(canonical(a) for a in row["answers"]),
            tokens=(0,) * len(row["answers"]),
            gold=row["gold_answer"],
        )
        for row in rows
    ]


def exact(name: str, questions: list[Recorded]) -> bool:
    """Whether a rule never reaches the end of a question of which samples are left out."""
    rule, cap = RULES[name]
    least = min(len(q.answers) for q in questions)
    short = [q for q in questions if len(q.answers) == least]
    return cap <= least or all(spent(rule, cap, [q]).samples < least for q in short)


def main(arguments: list[str]) -> None:
    """Print the table of a file of the release, or that of the slice."""
    path = Path(arguments[0]) if arguments else SLICE
    if not path.exists():
        sys.exit(f"there is no `{path}`: give a file of the release, or nothing for the slice")
    # Of tied answers the one seen first wins here, as in the release: the figures are whole.
    questions, whole = recorded(path) if arguments else sliced(path), bool(arguments)
    print(f"{'rule':16} {'right':>6} {'samples':>8} {'tokens':>10}   {SETS.get(len(questions), 'no set')}, gpt-oss-20b")
    for name, found in comparison(questions).items():
        published = PUBLISHED[name].get(len(questions), ())
        paid = f"{found.tokens:10.0f}" if whole else f"{'–':>10}"
        seen = (found.first_seen, found.samples, found.tokens)
        note = "same" if published and seen[: 2 + whole] == published[: 2 + whole] else "other"
        if not whole and not exact(name, questions):
            note = "not exact: it goes past the slice"
        figures = ", ".join(map(str, published))
        print(f"{name:16} {found.first_seen:6.0f} {found.samples:8.0f} {paid}   {figures:20}   {note}")


if __name__ == "__main__":
    main(sys.argv[1:])
