"""docs/languages.md: what the multilingual pair in the box can do, language by language, out of benchmarks/results/models.json.

    python -m models.multilingual --work WORK --export      trains, judges, and writes the results
    python -m benchmarks.languages [--data DIR]             draws the page and its picture

Shares of single languages have Wilson's interval of 95 % (Wilson 1927), in which a pair of sentences counts once though it
is looked for both ways, and a text once though several seeds answer it; means over languages one by resampling languages,
10,000 times, in pairs where two models are compared.
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import altair as alt
import numpy as np
import vl_convert
from scipy.stats import spearmanr

from benchmarks.written import DOCS, put
from halbert.files import write_bytes
from models.atlas import Atlas, alike
from models.making import DATA, RESULTS
from models.multilingual import NAMES
from models.tongues import ENGLISH, held_out_verses

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

    pairs, plain, aligned = told["pairs"], told["plain"], told["aligned"]
    return {
        "masked": {
            code: (row["found"], row["hidden"]) for code, row in plain["masked_by_language"].items() if row["hidden"]
        },
        "found": {code: (share * pairs[code], pairs[code]) for code, share in plain["retrieval"].items()},
        "aligned": {code: (share * pairs[code], pairs[code]) for code, share in aligned["retrieval"].items()},
        "topics": mean(plain["zero_shot"]),
        "everywhere": mean(plain["all_languages"]),
    }


def judged(score: str, codes: Iterable[str]) -> list[str]:
    """Without English where English taught."""
    return [code for code in codes if score != "topics" or code[:3] != ENGLISH]


def over(rows: dict[str, Share], codes: Iterable[str]) -> list[float]:
    """Shares of some languages."""
    return [rows[code][0] / rows[code][1] for code in codes if code in rows]


def resampled(values: Sequence[float]) -> str:
    """Mean in percent, and its interval over languages, of ten or more."""
    if len(values) < 10:
        return f"{100 * statistics.mean(values):.1f}" if values else ""
    draw = np.random.default_rng(0)
    means = np.array(values)[draw.integers(0, len(values), (10_000, len(values)))].mean(1)
    low, high = np.quantile(means, (0.025, 0.975))
    return f"{100 * statistics.mean(values):.1f} ({100 * low:.1f} to {100 * high:.1f})"


def bases(told: dict[str, Any]) -> dict[str, tuple[str, dict[str, float]]]:
    """By score, a predictor that knows no language: its name, and its shares by language."""
    found = ("three characters", told["trigrams"])
    topics, everywhere = (("three characters, learnt alike", shares) for shares in told["topics_by_trigrams"])
    return {
        "masked": ("the language's own commonest piece", told["commonest"]), "found": found, "aligned": found, "topics": topics,
        "everywhere": everywhere,
    }  # fmt: skip


def summary(
    found: dict[str, dict[str, dict[str, Share]]], base: dict[str, tuple[str, dict[str, float]]], atlas: Atlas
) -> list[str]:
    """Means over languages, and the difference of the two models; of few languages without intervals."""
    a, b = NAMES
    lines = [
        f"| score, mean over languages | languages and scripts | {a} | {b} | difference | {a} ahead in | no language known |",
        "|---|--:|--:|--:|--:|--:|--:|",
    ]
    for score, title in SCORES.items():
        all_of = judged(score, found[a][score])
        groups = {
            "learnt from": [code for code in all_of if atlas.learnt(code)],
            "never seen": [code for code in all_of if not atlas.learnt(code)],
            "English": [code for code in found[a][score] if score == "topics" and code[:3] == ENGLISH],
        }
        for told_of, codes in groups.items():
            if codes:
                x, y = (over(found[name][score], codes) for name in NAMES)
                gaps = [p - q for p, q in zip(x, y, strict=True)]
                none = [base[score][1][code] for code in codes]
                cells = " | ".join(resampled(values) for values in (x, y, gaps))
                lines.append(
                    f"| {title}, {told_of} | {len(codes)} | {cells} | {sum(gap > 0 for gap in gaps)} | {resampled(none)} |"
                )
    return lines


def aims(found: dict[str, dict[str, dict[str, Share]]], told: dict[str, Any], atlas: Atlas) -> list[str]:
    """What was asked for before the first training, over languages learnt from, and what came of it."""
    a = NAMES[0]
    codes = {
        score: [code for code in judged(score, found[a][score]) if atlas.learnt(code)]
        for score in ("found", "aligned", "topics")
    }
    three = statistics.mean(told[a]["trigrams"][code] for code in codes["found"])
    asked = {
        "found": (3 * three, "three times what three characters find"),
        "aligned": (0.15, "aim 25"),
        "topics": (COMMONEST + 0.1, "ten points above the commonest topic, other languages than English"),
    }
    lines = [f"| score, mean over languages learnt from | asked | {' | '.join(NAMES)} |", "|---|---|--:|--:|"]
    for score, (least, what) in asked.items():
        means = [statistics.mean(over(found[name][score], codes[score])) for name in NAMES]
        aim = {"aligned": 0.25}.get(score, least)
        cells = [
            f"{100 * mean:.1f}{': not reached' if mean < least else ': aim not reached' if mean < aim else ''}"
            for mean in means
        ]
        lines.append(f"| {SCORES[score]} | {100 * least:.1f} ({what}) | {' | '.join(cells)} |")
    return lines


def grouped(found: dict[str, dict[str, dict[str, Share]]], atlas: Atlas, kind: Callable[[str], str]) -> list[str]:
    """Means of both models by script or family, over languages learnt from, and how many these are; the largest first."""
    lines = [f"| | languages | {' | '.join(SCORES.values())} |", "|---|--:|" + "--:|" * len(SCORES)]
    groups: dict[str, set[str]] = {}
    for score in SCORES:
        for code in judged(score, found[NAMES[0]][score]):
            if kind(code) and atlas.learnt(code):
                groups.setdefault(kind(code), set()).add(code)
    for name, codes in sorted(groups.items(), key=lambda item: (-len({alike(code) for code in item[1]}), item[0])):
        cells = []
        for score in SCORES:
            some = judged(score, codes & found[NAMES[0]][score].keys())
            means = [f"{100 * statistics.mean(over(found[model][score], some)):.1f}" for model in NAMES if some]
            cells.append(f"{' / '.join(means)} ({len(some)})" if some else "")
        lines.append(f"| {name} | {len({alike(code) for code in codes})} | {' | '.join(cells)} |")
    return lines


def each(found: dict[str, dict[str, dict[str, Share]]], told: dict[str, Any], atlas: Atlas) -> list[str]:
    """A row for every language and script; bold where three characters find more translations than both models, slanted
    where they find more than one."""
    a = NAMES[0]
    codes = sorted({code for score in SCORES for code in found[a][score]}, key=lambda code: (atlas.name(code), code))
    whole = {code[:3]: code for code in reversed(codes) if "_" in code}  # where what has no script belongs
    titles = " | ".join(f"{title}, {name.split('-')[0]}" for title in SCORES.values() for name in NAMES)
    head = "| language | code | pieces there were | pieces a character | [UNK] | pairs | three characters"
    lines = [f"{head} | {titles} |", "|---|---|--:|--:|--:|--:|--:|" + "--:|" * len(SCORES) * len(NAMES)]
    for code in codes:
        if "_" not in code and alike(code) in whole:
            continue
        own = dict.fromkeys(SCORES, code)
        if whole.get(code[:3], "") == code:  # the second script of a language has only what is told of it
            for score in SCORES:
                bare = [c for c in found[a][score] if "_" not in c and alike(c) == code[:3]]
                own[score] = code if code in found[a][score] else bare[0] if bare else code
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
        three = ""
        if characters is not None:
            beaten = [characters >= over(found[model]["found"], [own["found"]])[0] for model in NAMES]
            mark = "**" if all(beaten) else "*" if any(beaten) else ""
            three = f"{mark}{100 * characters:.1f}{mark}"
        vocabulary = f"{fit['pieces']:.2f} | {100 * fit['unknown']:.1f} %" if fit else " | "
        pairs = told[a]["pairs"].get(own["found"], "")
        lines.append(
            f"| {atlas.name(code)} | `{code}` | {atlas.pieces(code):,} | {vocabulary} | {pairs} | {three} | {' | '.join(cells)} |"
        )
    return lines


def beaten(
    found: dict[str, dict[str, dict[str, Share]]], base: dict[str, tuple[str, dict[str, float]]], atlas: Atlas
) -> list[str]:
    """Of the languages learnt from, those in which a model is no better than a predictor that knows no language, and in how
    many more the interval of its share leaves that open."""
    lines = [
        "| score | predictor | model | learnt from | no better in | not clearly better in, besides |",
        "|---|---|---|--:|---|--:|",
    ]
    for score, (title, shares_of) in base.items():
        for model in NAMES:
            rows = {c: found[model][score][c] for c in judged(score, found[model][score]) if atlas.learnt(c)}
            worse = [code for code, (right, n) in rows.items() if right / n <= shares_of[code] + 1e-9]
            unclear = [code for code, row in rows.items() if code not in worse and interval(*row)[0] <= shares_of[code]]
            names = f"{len(worse)}: {'; '.join(sorted(map(atlas.name, worse)))}" if worse else "none"
            lines.append(f"| {SCORES[score]} | {title} | {model} | {len(rows)} | {names} | {len(unclear)} |")
    return lines


def by_seed(told: dict[str, Any], base: dict[str, tuple[str, dict[str, float]]], atlas: Atlas) -> list[str]:
    """Topics in percent, every run by itself, over languages learnt from."""
    lines = ["| score | model | mean over languages, every seed | no language known |", "|---|---|--:|--:|"]
    for score, runs_of in (("topics", "zero_shot"), ("everywhere", "all_languages")):
        codes = [code for code in judged(score, told[NAMES[0]]["vocabulary"]) if atlas.learnt(code)]
        none = statistics.mean(base[score][1][code] for code in codes)
        for model in NAMES:
            runs = [statistics.mean(run[code] for code in codes) for run in told[model]["plain"][runs_of]]
            lines.append(
                f"| {SCORES[score]} | {model} | {', '.join(f'{100 * run:.1f}' for run in runs)} | {100 * none:.1f} |"
            )
    return lines


def coverage(
    found: dict[str, dict[str, dict[str, Share]]],
    told: dict[str, Any],
    base: dict[str, tuple[str, dict[str, float]]],
    atlas: Atlas,
) -> list[str]:
    """How the vocabulary's fit and a language's scores go together: Spearman's rank correlation over languages learnt from,
    and beside it that of a predictor which has no vocabulary."""
    fit = {code: row["pieces"] for code, row in told[NAMES[0]]["vocabulary"].items()}
    fit |= {code[:3]: fit[code] for code in reversed(list(fit))}
    lines = [
        f"| rank correlation with pieces a character | languages and scripts | {' | '.join(NAMES)} | no language known |",
        "|---|--:|--:|--:|--:|",
    ]
    for score, title in SCORES.items():
        pieces = {code: fit.get(code, fit.get(alike(code))) for code in judged(score, found[NAMES[0]][score])}
        all_of = [code for code, value in pieces.items() if value is not None and atlas.learnt(code)]
        others = [code for code in all_of if atlas.script(code) != "Latin"]
        for what, codes in ((title, all_of), (f"{title}, other scripts than Latin", others)):
            if len(codes) >= 10:
                of = [*(over(found[model][score], codes) for model in NAMES), [base[score][1][code] for code in codes]]
                cells = [f"{spearmanr([pieces[code] for code in codes], shares).statistic:.2f}" for shares in of]
                lines.append(f"| {what} | {len(codes)} | {' | '.join(cells)} |")
    return lines


def picture(found: dict[str, dict[str, dict[str, Share]]], atlas: Atlas) -> bytes:
    """Each language a dot: one model's share by the other's, a panel a score."""
    panels = []
    for score in ("masked", "found", "aligned", "topics"):
        rows = []
        for code, (right, n) in found[NAMES[0]][score].items():
            other = found[NAMES[1]][score][code]
            seen = "learnt from" if atlas.learnt(code) else "never seen"
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
    verses = held_out_verses(options.data)
    atlas = Atlas(options.data, told[NAMES[0]]["seen"], verses)
    base = bases(told[NAMES[0]])
    put("languages.md", "aims", aims(found, told, atlas))
    put("languages.md", "summary", summary(found, base, atlas))
    put("languages.md", "seeds", by_seed(told, base, atlas))
    put("languages.md", "beaten", beaten(found, base, atlas))
    put("languages.md", "scripts", grouped(found, atlas, atlas.script))
    put("languages.md", "coverage", coverage(found, told, base, atlas))
    put("languages.md", "families", grouped(found, atlas, atlas.family))
    put("languages.md", "languages", each(found, told, atlas))
    write_bytes(DOCS / "languages.png", picture(found, atlas))


if __name__ == "__main__":
    main()
