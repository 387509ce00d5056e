"""What is known of the languages that the multilingual models are judged by: name, script, family, whether it was learnt from."""

from __future__ import annotations

import tomllib
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from pathlib import Path

from halbert.text.languages import name_of
from models.tongues import index_of, named_rows

# Tatoeba and the Bibles name a language, SIB-200 and the models' texts its variety that is written most.
VARIETY = {
    "ara": "arb", "aze": "azj", "cmn": "zho", "kur": "kmr", "lav": "lvs", "mon": "khk", "sqi": "als", "uzb": "uzn",
    "yid": "ydd",
}  # fmt: skip

# By ISO 639-3, where CLDR has no English name for the code, or one that does not tell two of them apart.
NAMES = {
    "acm": "Mesopotamian Arabic", "acq": "Ta'izzi-Adeni Arabic", "ajp": "South Levantine Arabic", "apc": "North Levantine Arabic",
    "ber": "Berber", "cbk": "Chavacano", "cjk": "Chokwe", "fuv": "Nigerian Fulfulde", "hne": "Chhattisgarhi", "kmr": "Northern Kurdish",
    "kon": "Kongo", "kur": "Northern Kurdish", "kzj": "Coastal Kadazan", "lim": "Limburgish", "max": "North Moluccan Malay",
    "mhr": "Meadow Mari", "orv": "Old Russian", "pbt": "Southern Pashto", "swg": "Swabian", "taq": "Tamasheq", "tgl": "Tagalog",
    "twi": "Twi", "tzl": "Talossan",
}  # fmt: skip


def script_of(texts: Iterable[str]) -> str:
    """The script most letters of some texts are in, by the first word of their Unicode names."""
    words = Counter(
        unicodedata.name(c, "").split(" ")[0] for text in texts for c in text if unicodedata.category(c)[0] == "L"
    )
    if words["HIRAGANA"] + words["KATAKANA"] > 0.1 * words.total():
        return "Japanese"
    first = max(words, key=lambda word: (words[word], word), default="")
    known = {
        "BENGALI": "Bangla", "CANADIAN": "Canadian syllabics", "CJK": "Han", "NKO": "N’Ko", "OL": "Ol Chiki", "ORIYA": "Odia",
    }  # fmt: skip
    return known.get(first, first.capitalize())


class Atlas:
    """What is known of languages: scripts, families, whether they were learnt from."""

    def __init__(self, data: Path, seen: Mapping[str, int], verses: dict[str, list[str]]) -> None:
        """``seen``: pieces learnt from, by language."""
        self.seen = Counter({code[:3]: 0 for code in seen})
        for code, count in seen.items():
            self.seen[code[:3]] += count
        families = tomllib.loads((Path(__file__).parent / "families.toml").read_text("utf-8"))
        self.families = {code: family for family, codes in families.items() for code in codes.split()}
        self.names = {row["iso639_3"]: row["name"] for row in index_of(data / "udhr/index.tsv")}
        self.names |= {row["code"]: row["language"] for row in index_of(data / "bible/index.tsv")}
        topics: dict[str, list[str]] = defaultdict(list)
        for row in named_rows(data / "sib200/train.tsv.gz"):
            topics[row["lang"]].append(row["text"])
        pairs: dict[str, list[str]] = defaultdict(list)
        for row in named_rows(data / "tatoeba/tatoeba.tsv.gz"):
            pairs[row["lang"]].append(row["sentence"])
        self.scripts = {code: script_of(texts) for code, texts in (verses | pairs | topics).items()}
        self.unlearnt = self._unlearnt(data, list(topics))

    @staticmethod
    def _unlearnt(data: Path, codes: list[str]) -> set[str]:
        """Second scripts of which nothing was learnt: SIB-200's sentences are learnt in a language's first alone."""
        first = {code[:3]: code for code in reversed(codes)}
        declared = {(row["iso639_3"], row["script"]) for row in index_of(data / "udhr/index.tsv")}
        bibles = {row["code"].replace("-", "_") for row in index_of(data / "bible/index.tsv")}
        return {
            code for code in codes
            if first[code[:3]] != code and (code[:3], code[4:]) not in declared and code not in bibles
        }  # fmt: skip

    def learnt(self, code: str) -> bool:
        """Whether any text of it was learnt from, in this script."""
        return alike(code) in self.seen and code not in self.unlearnt

    def pieces(self, code: str) -> int:
        """How many pieces of the language were there to learn from, in whatever script."""
        return self.seen[alike(code)] if self.learnt(code) else 0

    def script(self, code: str) -> str:
        """As Unicode calls it, by the texts it was judged by."""
        return self.scripts.get(code, "")

    def name(self, code: str) -> str:
        """English, by CLDR where it has one, else by the index of the Bibles or of the Declaration; the script in brackets."""
        name = name_of(code)
        if code[:3] in NAMES or name == code:
            name = NAMES.get(code[:3]) or self.names.get(code[:3], code)
            name = " ".join(reversed(name.partition(" (")[0].split(", ")))  # "Aymara, Central", "Chokwe (Angola)"
        return name if "(" in name or "_" not in code else f"{name} ({self.script(code)})"

    def family(self, code: str) -> str:
        """As ``families.toml`` has it, or nothing."""
        return self.families.get(code[:3], "")


def alike(code: str) -> str:
    """A language's code in three letters, that of the one variety which stands for it elsewhere."""
    return VARIETY.get(code[:3], code[:3])
