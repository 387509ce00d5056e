"""``halbert corpus``."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from halbert.cli.options import MODEL_HELP, Address, Engine, EngineChoice, Quiet, Texts, cluster_of, text_column
from halbert.cli.output import Bars, note
from halbert.data.addresses import Place, as_path, is_address, work_name

if TYPE_CHECKING:
    from halbert.data.corpus import Corpus
    from halbert.text import Tokenizer

HELP = (
    "Turn text into a corpus for pre-training: documents, sentences, ids. Of plain text a blank line ends a document and a "
    "line is a paragraph; of .jsonl and .parquet every field or column 'text' is a document. A run that was stopped goes "
    "on where it was when the same command is given again. A line of more than 1 MiB is cut, and a document of more than "
    "8 MiB where a shard is full; both are counted in the manifest."
)
# Share of unknown pieces. English prose with Google's uncased vocabulary has 0.0 %, not lower-cased 8.1 %, with the
# multilingual one 1.6 %; Chinese with its own 0.05 %.
UNFITTING = 0.02
RESUMABLE = True
STOPPED = "give the same command again to go on with what is finished"
EXAMPLE = "Example: halbert corpus books.txt.gz de=wiki.jsonl.zst --language en --tokenizer ./tokenizer --out corpus"


def run(
    files: Annotated[
        list[str],
        typer.Argument(
            metavar="FILES…",
            help="Text, .jsonl (both also .gz, .zst, .xz) or .parquet; paths, folders, or addresses that fsspec reads "
            "(https://…, s3://…). xx=FILE tells a file's language.",
        ),
    ],
    tokenizer: Annotated[
        str | None, typer.Option(metavar="MODEL", help=f"Whose tokenizer. {MODEL_HELP}", show_default=False)
    ] = None,
    out: Annotated[
        str | None,
        typer.Option(
            metavar="FOLDER",
            help="The folder to write; at an address (s3://…) it is made here first.",
            show_default=False,
        ),
    ] = None,
    workers: Annotated[
        int | None, typer.Option(min=1, help="Processes; the result is the same for any number. Default: all cores.")
    ] = None,
    engine: Engine = EngineChoice.here,
    address: Address = None,
    column: Texts = None,
    language: Annotated[str, typer.Option(metavar="XX", help="Language of the files that do not tell theirs.")] = "",
    dedupe: Annotated[
        bool,
        typer.Option(
            "--dedupe",
            help="Drop paragraphs that came before: equal but for case, accents, digits, punctuation and white space.",
        ),
    ] = False,
    whole: Annotated[
        bool,
        typer.Option(
            "--whole",
            help="Keep every paragraph as one sentence: for documents whose lines translate each other (start_parallel).",
        ),
    ] = False,
    skip_bad: Annotated[
        bool,
        typer.Option(
            "--skip-bad",
            help="Leave out lines and rows that cannot be read, and files with too many of them, and list them. Reads twice.",
        ),
    ] = False,
    licence: Annotated[str, typer.Option(help="Under which licence the text is; kept in the manifest.")] = "",
    merge: Annotated[
        bool, typer.Option("--merge", help="FILES are corpora made with the same tokenizer: put them together.")
    ] = False,
    verify: Annotated[bool, typer.Option("--verify", help="FILES are corpora: check every file's hash.")] = False,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace the corpus at --out, and what another command has begun of it.")
    ] = False,
    quiet: Quiet = False,
) -> None:
    """See HELP."""
    from halbert.data.corpus import merge_corpora
    from halbert.data.encoding import encode_files
    from halbert.data.manifest import NAME
    from halbert.source import resolve_tokenizer

    if verify:
        _verify(files, quiet)
        return
    if out is None:
        raise typer.BadParameter("missing: name the folder to write", param_hint="--out")
    folder = as_path(out)
    begun = False
    if is_address(out):
        folder = work_name(out)
        begun = (folder / NAME).exists()  # what could not be put there, or not to the end
        _place(out).check(overwrite, begun)
    if merge:
        corpus = merge_corpora(files, folder, overwrite or begun)
        _put(corpus, out, overwrite)
        _tell(corpus, out)
        return
    if tokenizer is None:
        raise typer.BadParameter("missing: name the model whose tokenizer is to be used", param_hint="--tokenizer")
    chosen = resolve_tokenizer(tokenizer)
    # As it could be given anywhere: the inputs are listed in the manifest, and no number of workers changes anything.
    model = Path(tokenizer).name if Path(tokenizer).exists() else tokenizer
    switches = [name for name, on in (("--dedupe", dedupe), ("--whole", whole), ("--skip-bad", skip_bad)) if on]
    told = ["--language", language] if language else []
    field = text_column(column)
    told += [] if field == "text" else ["--column", f"text={field}"]
    told += ["--licence", licence] if licence else []
    command = f"halbert corpus FILES… {shlex.join(['--tokenizer', model, *told, *switches])}"
    with Bars(quiet).bytes("Encoding") as progress:
        corpus = encode_files(
            files, chosen, folder, workers=workers, language=language, dedupe=dedupe, whole=whole, skip_bad=skip_bad,
            column=field, licence=licence, command=command, progress=progress, cluster=cluster_of(engine, address),
            overwrite=overwrite or begun,
        )  # fmt: skip
    _put(corpus, out, overwrite)
    _tell(corpus, out, chosen)


def _place(out: str) -> Place:
    from halbert.data.manifest import NAME

    return Place(out, re.compile(rf"(ids|sentences|documents)-\d+\.npy|{re.escape(NAME)}"), NAME)


def _put(corpus: Corpus, out: str, overwrite: bool) -> None:
    """Where it is wanted, if that is not here; without its manifest it is no corpus yet."""
    if is_address(out):
        note(f"putting the corpus to {out}")
        _place(out).put(corpus.folder, overwrite)


def _verify(folders: list[str], quiet: bool) -> None:
    from halbert.data.corpus import Corpus

    for folder in folders:
        corpus = Corpus(folder)
        with Bars(quiet).task(f"Checking {folder}", len(corpus)) as step:
            for number in range(len(corpus)):
                corpus.shard(number)
                step()
        note(f"{folder}: all {len(corpus)} shard(s) are what was written")


def _tell(corpus: Corpus, out: str, tokenizer: Tokenizer | None = None) -> None:
    m = corpus.manifest
    note(
        f"wrote {out}: {m.documents:,} documents, {m.sentences:,} sentences, {m.tokens:,} pieces in {len(m.shards)} shard(s)"
    )
    if m.skipped:
        shown = "".join(f"\n  {skipped.reason}" for skipped in m.skipped[:20])
        rows = [skipped.rows for skipped in m.skipped if skipped.rows]
        left = [f"{len(m.skipped) - len(rows):,} file(s)"] if len(rows) < len(m.skipped) else []
        left += [f"{sum(rows):,} line(s) of {len(rows):,} file(s)"] if rows else []
        note(f"warning: {' and '.join(left)} were left out; the manifest lists them:{shown}")
    if m.cut.lines or m.cut.documents:
        note(f"cut because of their length: lines at {m.cut.lines:,} places, documents at {m.cut.documents:,}")
    if m.duplicates.paragraphs:
        note(f"dropped as duplicates: {m.duplicates.paragraphs:,} paragraphs, {m.duplicates.bytes / 1e6:,.1f} MB")
    if tokenizer is not None and m.unknown > UNFITTING * m.tokens:
        note(
            f"warning: {m.unknown / m.tokens:.1%} of the pieces are {tokenizer.special['unk']}: text and vocabulary do not "
            f"fit. Text is read with lower_case = {tokenizer.spec.lower_case}, strip_accents = "
            f"{tokenizer.spec.strip_accents}; of the vocabulary, {_upper(tokenizer):,} of its {tokenizer.vocab_size:,} "
            "tokens hold upper-case letters"
        )


def _upper(tokenizer: Tokenizer) -> int:
    from halbert.text.tokenizer import upper_case

    return len(upper_case(tokenizer.vocab))
