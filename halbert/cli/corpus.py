"""``halbert corpus``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from halbert.cli.options import MODEL_HELP
from halbert.cli.output import note
from halbert.files import check_target, require_file, sha256

HELP = "Turn text files into a corpus for pre-training: documents, sentences, ids. A blank line ends a document."
# Share of unknown pieces. English prose with Google's uncased vocabulary has 0.0 %, not lower-cased 8.1 %, with the
# multilingual one 1.6 %; Chinese with its own 0.05 %.
UNFITTING = 0.02
EXAMPLE = "Example: halbert corpus books.txt.gz --tokenizer ./tokenizer --out corpus"


def run(
    files: Annotated[list[Path], typer.Argument(metavar="FILES…", help="UTF-8 text files, .gz too.")],
    tokenizer: Annotated[str, typer.Option(metavar="MODEL", help=f"Whose tokenizer. {MODEL_HELP}")],
    out: Annotated[Path, typer.Option(help="The folder to write.")],
) -> None:
    """See HELP."""
    from halbert.data.corpus import build_corpus, read_documents
    from halbert.source import resolve_tokenizer
    from halbert.text.tokenizer import upper_case

    check_target(out)
    inputs = {file.name: sha256(require_file(file, "text file")) for file in files}
    chosen = resolve_tokenizer(tokenizer)
    documents = (document for file in files for document in read_documents(file))
    corpus = build_corpus(documents, chosen, out, inputs=inputs)
    m = corpus.manifest
    note(
        f"wrote {out}: {m.documents:,} documents, {m.sentences:,} sentences, {m.tokens:,} pieces in {len(m.shards)} shard(s)"
    )
    if m.unknown > UNFITTING * m.tokens:
        note(
            f"warning: {m.unknown / m.tokens:.1%} of the pieces are {chosen.special['unk']}: text and vocabulary do not fit. "
            f"Text is read with lower_case = {chosen.spec.lower_case}, strip_accents = {chosen.spec.strip_accents}; of the "
            f"vocabulary, {len(upper_case(chosen.vocab)):,} of its {chosen.vocab_size:,} tokens hold upper-case letters"
        )
