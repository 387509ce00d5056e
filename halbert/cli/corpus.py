"""``halbert corpus``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from halbert.cli.options import MODEL_HELP
from halbert.cli.output import note
from halbert.files import check_target, require_file, sha256

HELP = "Turn text files into a corpus for pre-training: documents, sentences, ids. A blank line ends a document."
EXAMPLE = "Example: halbert corpus books.txt.gz --tokenizer ./tokenizer --out corpus"


def run(
    files: Annotated[list[Path], typer.Argument(metavar="FILES…", help="UTF-8 text files, .gz too.")],
    tokenizer: Annotated[str, typer.Option(metavar="MODEL", help=f"Whose tokenizer. {MODEL_HELP}")],
    out: Annotated[Path, typer.Option(help="The folder to write.")],
) -> None:
    """See HELP."""
    from halbert.data.corpus import build_corpus, read_documents
    from halbert.source import resolve_tokenizer

    check_target(out)
    inputs = {file.name: sha256(require_file(file, "text file")) for file in files}
    documents = (document for file in files for document in read_documents(file))
    corpus = build_corpus(documents, resolve_tokenizer(tokenizer), out, inputs=inputs)
    m = corpus.manifest
    note(
        f"wrote {out}: {m.documents:,} documents, {m.sentences:,} sentences, {m.tokens:,} pieces in {len(m.shards)} shard(s)"
    )
