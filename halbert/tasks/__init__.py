"""What a model is asked to do: one row a task, metrics with intervals, logits to answers."""
