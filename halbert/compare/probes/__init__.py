"""One probe per file, each with its own unit, samples and words for how it is made."""
