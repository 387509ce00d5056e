"""The learning rate by step."""

from __future__ import annotations


def linear(step: int, peak: float, warmup: int, steps: int) -> float:
    """Linear warm-up to ``peak`` over ``warmup`` steps, then linear decay to 0 at ``steps`` (BERT paper A.2).

    ``step`` counts from 0 and the rate is the one that step uses. Continuous at the end of the warm-up, unlike
    Google's code, which jumps down there.
    """
    if step < warmup:
        return peak * (step + 1) / warmup
    return peak * max(0.0, (steps - step) / max(1, steps - warmup))
