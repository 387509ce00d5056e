"""docs/languages.md: what the multilingual pair in the box can do, language by language, out of benchmarks/results/models.json.

    python -m models.multilingual --work WORK --export      trains, judges, and writes the results
    python -m benchmarks.languages [--data DIR]             draws the page and its picture

Shares of single languages have Wilson's interval of 95 % (Wilson 1927); means over languages one by resampling languages,
10,000 times, in pairs where two models are compared.
"""

from __future__ import annotations

import argparse
import csv
import json
import math
import statistics
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import altair as alt
import numpy as np
import vl_convert

from benchmarks.written import DOCS, put
from halbert.files import write_bytes
from halbert.text.languages import name_of
from models.making import DATA, RESULTS
from models.multilingual import NAMES

SCORES = {
    "masked": "masked pieces", "found": "translations found", "aligned": "the same, aligned", "topics": "topics from English",
    "everywhere": "topics, all languages",
}  # fmt: skip
COMMONEST = 0.25  # share of SIB-200's commonest topic
Share = tuple[float, float]  # right, of how many


def interval(right: float, n: float) -> tuple[float, float]:
    """Wilson's interval of a share, 95 %."""
    z, p = 1.96, right / n
    middle, reach = p + z * z / (2 * n), z * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
    return (middle - reach) / (1 + z * z / n), (middle + reach) / (1 + z * z / n)


def shares(told: dict[str, Any]) -> dict[str, dict[str, Share]]:
    """By score and language: right, and of how many. Seeds are averaged; texts of a test are counted once."""
    topics = {code: row["texts"] for code, row in told["vocabulary"].items()}

    def mean(runs: Sequence[dict[str, float]]) -> dict[str, Share]:
        return {code: (statistics.mean(run[code] for run in runs) * topics[code], topics[code]) for code in topics}

    both = {code: 2 * n for code, n in told["pairs"].items()}  # looked for both ways
    plain, aligned = told["plain"], told["aligned"]
    return {
        "masked": {
            code: (row["found"], row["hidden"]) for code, row in plain["masked_by_language"].items() if row["hidden"]
        },
        "found": {code: (share * both[code], both[code]) for code, share in plain["retrieval"].items()},
        "aligned": {code: (share * both[code], both[code]) for code, share in aligned["retrieval"].items()},
        "topics": mean(plain["zero_shot"]),
        "everywhere": mean(plain["all_languages"]),
    }


def over(rows: dict[str, Share], codes: Iterable[str]) -> list[float]:
    """Shares of some languages."""
    return [rows[code][0] / rows[code][1] for code in codes if code in rows]


def resampled(values: Sequence[float]) -> str:
    """Mean in percent, and its interval over languages."""
    if not values:
        return ""
    draw = np.random.default_rng(0)
    means = np.array(values)[draw.integers(0, len(values), (10_000, len(values)))].mean(1)
    low, high = np.quantile(means, (0.025, 0.975))
    return f"{100 * statistics.mean(values):.1f} ({100 * low:.1f} to {100 * high:.1f})"


class Atlas:
    """What is known of languages: scripts, families, whether they were learnt from."""

    def __init__(self, data: Path, seen: Iterable[str]) -> None:
        self.seen = {code[:3] for code in seen}
        self.families: dict[str, str] = {}
        self.scripts: dict[str, str] = {}
        for file, code, script in (("udhr/index.tsv", "iso639_3", "script"), ("bible/index.tsv", "code", "script")):
            with (data / file).open(encoding="utf-8", newline="") as rows:
                for row in csv.DictReader(rows, delimiter="\t", quoting=csv.QUOTE_NONE):
                    self.scripts[row[code][:3]] = row[script]
                    if row.get("family"):
                        self.families[row[code][:3]] = row["family"]

    def script(self, code: str) -> str:
        """ISO 15924, or nothing."""
        return code.split("_")[1] if "_" in code else self.scripts.get(code[:3], "")

    def family(self, code: str) -> str:
        """As the index of the Bibles names it, or nothing."""
        return self.families.get(code[:3], "")


def summary(found: dict[str, dict[str, dict[str, Share]]], told: dict[str, Any], atlas: Atlas) -> list[str]:
    """Means over languages, and the difference of the two models."""
    a, b = NAMES
    lines = [
        f"| score, mean over languages | languages | {a} | {b} | difference | no language known |",
        "|---|--:|--:|--:|--:|--:|",
    ]
    base: dict[str, Callable[[list[str]], str]] = {
        "masked": lambda codes: f"{100 * told[a]['unigram']['accuracy']:.1f}",
        "found": lambda codes: resampled([told[a]["trigrams"][code] for code in codes]),
        "topics": lambda codes: f"{100 * COMMONEST:.0f}",
    }
    base |= {"aligned": base["found"], "everywhere": base["topics"]}
    for score, title in SCORES.items():
        for which in (True, False):
            codes = [code for code in found[a][score] if (code[:3] in atlas.seen) == which]
            if not codes:
                continue
            x, y = (over(found[name][score], codes) for name in NAMES)
            gap = resampled([p - q for p, q in zip(x, y, strict=True)])
            told_of = "learnt from" if which else "never seen"
            lines.append(
                f"| {title}, {told_of} | {len(codes)} | {resampled(x)} | {resampled(y)} | {gap} | {base[score](codes)} |"
            )
    return lines


def grouped(found: dict[str, dict[str, dict[str, Share]]], kind: Callable[[str], str]) -> list[str]:
    """Means by script or family, the largest groups first."""
    titles = " | ".join(f"{title}, {name.split('-')[0]}" for title in SCORES.values() for name in NAMES)
    lines = [f"| | languages | {titles} |", "|---|--:|" + "--:|" * (len(SCORES) * len(NAMES))]
    groups: dict[str, set[str]] = {}
    for score in SCORES:
        for code in found[NAMES[0]][score]:
            if kind(code):
                groups.setdefault(kind(code), set()).add(code)
    for name, codes in sorted(groups.items(), key=lambda item: (-len({code[:3] for code in item[1]}), item[0])):
        cells = []
        for score in SCORES:
            for model in NAMES:
                values = over(found[model][score], codes)
                cells.append(f"{100 * statistics.mean(values):.1f}" if values else "")
        lines.append(f"| {name} | {len({code[:3] for code in codes})} | {' | '.join(cells)} |")
    return lines


def each(found: dict[str, dict[str, dict[str, Share]]], told: dict[str, Any], atlas: Atlas) -> list[str]:
    """A row for every language and script; bold where three characters find more translations than both models."""
    a = NAMES[0]
    codes = sorted({code for score in SCORES for code in found[a][score]}, key=lambda code: (name_of(code), code))
    whole = {code[:3]: code for code in reversed(codes) if "_" in code}  # where what has no script belongs
    titles = " | ".join(f"{title}, {name.split('-')[0]}" for title in SCORES.values() for name in NAMES)
    head = "| language | code | seen | pieces a character | [UNK] | three characters"
    lines = [f"{head} | {titles} |", "|---|---|---|--:|--:|--:|" + "--:|" * len(SCORES) * len(NAMES)]
    for code in codes:
        if "_" not in code and code[:3] in whole:
            continue
        own = {score: code if code in found[a][score] else code[:3] for score in SCORES}
        if whole.get(code[:3], code) != code:  # the second script of a language has only what is told of it
            own = dict.fromkeys(SCORES, code)
        cells = []
        for score in SCORES:
            for model in NAMES:
                share = found[model][score].get(own[score])
                if share is None:
                    cells.append("")
                    continue
                low, high = interval(*share)
                cells.append(f"{100 * share[0] / share[1]:.1f} ({100 * low:.0f} to {100 * high:.0f})")
        fit = told[a]["vocabulary"].get(code)
        characters = told[a]["trigrams"].get(own["found"])
        wins = characters is not None and all(
            characters >= found[model]["found"][own["found"]][0] / found[model]["found"][own["found"]][1]
            for model in NAMES
        )
        three = "" if characters is None else f"**{100 * characters:.1f}**" if wins else f"{100 * characters:.1f}"
        vocabulary = f"{fit['pieces']:.2f} | {100 * fit['unknown']:.1f} %" if fit else " | "
        seen = "yes" if code[:3] in atlas.seen else "no"
        lines.append(f"| {name_of(code)} | `{code}` | {seen} | {vocabulary} | {three} | {' | '.join(cells)} |")
    return lines


def picture(found: dict[str, dict[str, dict[str, Share]]], atlas: Atlas) -> bytes:
    """Each language a dot: one model's share by the other's, a panel a score."""
    panels = []
    for score in ("masked", "found", "aligned", "topics"):
        rows = []
        for code, (right, n) in found[NAMES[0]][score].items():
            other = found[NAMES[1]][score][code]
            seen = "learnt from" if code[:3] in atlas.seen else "never seen"
            rows.append({"a": 100 * right / n, "b": 100 * other[0] / other[1], "seen": seen})
        top = max(max(row["a"], row["b"]) for row in rows) * 1.05
        scale = alt.Scale(domain=[0, top], nice=False)
        dots = alt.Chart(alt.Data(values=rows)).mark_circle(size=36, opacity=0.7).encode(
            x=alt.X("b:Q", scale=scale, title=f"{NAMES[1]}, %"), y=alt.Y("a:Q", scale=scale, title=f"{NAMES[0]}, %"),
            color=alt.Color("seen:N", title=None, scale=alt.Scale(domain=["learnt from", "never seen"], range=["#1b6ca8", "#d17a22"])),
        )  # fmt: skip
        line = (
            alt.Chart(alt.Data(values=[{"v": 0}, {"v": top}]))
            .mark_line(color="#8a949b", strokeDash=[4, 3])
            .encode(x="v:Q", y="v:Q")
        )
        panels.append((line + dots).properties(width=250, height=250, title=SCORES[score]))
    chart = alt.concat(*panels, columns=2).configure_legend(orient="top")
    png: bytes = vl_convert.vegalite_to_png(chart.to_json(), scale=2)
    return png


def main() -> None:
    """Draw."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=DATA)
    parser.add_argument("--results", type=Path, default=RESULTS)
    options = parser.parse_args()
    told = json.loads(options.results.read_text())
    found = {name: shares(told[name]) for name in NAMES}
    atlas = Atlas(options.data, told[NAMES[0]]["seen"])
    put("languages.md", "summary", summary(found, told, atlas))
    put("languages.md", "scripts", grouped(found, atlas.script))
    put("languages.md", "families", grouped(found, atlas.family))
    put("languages.md", "languages", each(found, told, atlas))
    write_bytes(DOCS / "languages.png", picture(found, atlas))


if __name__ == "__main__":
    main()
