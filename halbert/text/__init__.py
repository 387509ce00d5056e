"""Text to ids and back: WordPiece and unigram tokenizers, and learning their vocabularies."""

from halbert.text.tokenizer import Encoding, Tokenizer, load_tokenizer

__all__ = ["Encoding", "Tokenizer", "load_tokenizer"]
