"""Serving: one process that speaks HTTP, one that computes, and a fair bounded queue between them."""
