"""Text and labels as arrays: documents, sentences, corpora, pairs, masks, examples, features, batches."""
