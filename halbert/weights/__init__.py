"""Files to arrays and back: tensor names, Hugging Face folders, strict accounting."""
