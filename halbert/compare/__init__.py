"""The product: subjects and probes, interleaved, to results, a verdict and a page."""
