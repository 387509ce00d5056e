from __future__ import annotations

import gzip
import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from halbert.data.corpus import Corpus, build_corpus, merge_corpora, read_documents
from halbert.data.sentences import split_sentences
from halbert.errors import InputError
from halbert.files import sha256
from tests import small, tiny
from tests.text.made import learnt

DOCUMENTS = [
    tiny.SPEECH[:3], [" ".join(tiny.SPEECH[3:5]), "the cat sat."], ["   "], [tiny.SPEECH[6]], ["a b. C d. E!"],
    *([line] for line in tiny.SPEECH[7:]),
]  # fmt: skip


def expected(documents, tokenizer) -> list[list[list[int]]]:
    """Ids by document and sentence, one at a time with the plain tokenizer."""
    found = [
        [ids for p in d for s in split_sentences(p) if (ids := [piece.id for piece in tokenizer.pieces(s)])]
        for d in documents
    ]  # fmt: skip
    return [d for d in found if d]


def read_back(corpus: Corpus) -> list[list[list[int]]]:
    found = []
    for number in range(len(corpus)):
        shard = corpus.shard(number)
        for d in range(len(shard.documents) - 1):
            span = range(shard.documents[d], shard.documents[d + 1])
            found.append([shard.ids[shard.sentences[s] : shard.sentences[s + 1]].tolist() for s in span])
    return found


@pytest.mark.parametrize("kind", ["wordpiece", "unigram"])
@pytest.mark.parametrize("shard_tokens", [1, 40, 1 << 24])
def test_the_arrays_hold_the_ids_of_the_text(tmp_path, monkeypatch, kind, shard_tokens):
    monkeypatch.setattr("halbert.data.shards._BATCH_SENTENCES", 3)
    tokenizer = learnt(kind)
    corpus = build_corpus(
        DOCUMENTS, tokenizer, tmp_path / "c", shard_tokens=shard_tokens, note="said", inputs={"a": "b"}
    )
    wanted = expected(DOCUMENTS, tokenizer)
    assert read_back(corpus) == wanted
    m = corpus.manifest
    assert (m.documents, m.sentences) == (len(wanted), sum(map(len, wanted)))
    assert m.tokens == sum(len(s) for d in wanted for s in d)
    assert m.characters == sum(len(s) for d in DOCUMENTS for p in d for s in split_sentences(p))
    assert (m.tokenizer, m.vocab_size, m.note) == (tokenizer.fingerprint, tokenizer.vocab_size, "said")
    assert [(source.name, source.sha256) for source in m.inputs] == [("a", "b")]
    assert len(corpus) == len(m.shards) and (len(corpus) > 1) == (shard_tokens < 1000)
    for shard in m.shards:
        assert shard.tokens < shard_tokens + max(sum(map(len, d)) for d in wanted) * 3 or shard_tokens > 1000
        for name, digest in shard.sha256.items():
            assert sha256(corpus.folder / name) == digest
    assert corpus.shard(0).ids.dtype == np.uint16 and corpus.shard(0).sentences.dtype == np.int64
    assert isinstance(corpus.shard(0).ids, np.memmap)


def test_many_shards_are_one_shard_cut(tmp_path):
    tokenizer = tiny.tokenizer()
    one = build_corpus(DOCUMENTS, tokenizer, tmp_path / "one")
    many = build_corpus(DOCUMENTS * 1, tokenizer, tmp_path / "many", shard_tokens=1)
    assert len(one) == 1 and read_back(one) == read_back(many)
    joined = np.concatenate([many.shard(i).ids for i in range(len(many))])
    np.testing.assert_array_equal(joined, one.shard(0).ids)


def test_the_same_text_gives_the_same_bytes(tmp_path):
    for name in "ab":
        build_corpus(DOCUMENTS, tiny.tokenizer(), tmp_path / name)
    for file in (tmp_path / "a").iterdir():
        assert file.read_bytes() == (tmp_path / "b" / file.name).read_bytes()


@given(
    st.lists(
        st.lists(st.sampled_from(["the cat. A dog!", "", " ", "un want. ", "世界。猫", "x"]), max_size=3), max_size=6
    )
)
def test_any_documents(documents):
    import tempfile

    tokenizer = tiny.tokenizer()
    wanted = expected(documents, tokenizer)
    with tempfile.TemporaryDirectory() as place:
        if not wanted:
            with pytest.raises(InputError, match="holds no text"):
                build_corpus(documents, tokenizer, f"{place}/c")
        else:
            assert read_back(build_corpus(documents, tokenizer, f"{place}/c", shard_tokens=3)) == wanted


@pytest.mark.parametrize("ending", ["txt", "txt.gz"])
def test_documents_of_a_file(tmp_path, ending):
    text = "\ufeffA b.\nC d.\r\n\n\n \nE f.\u2028G.\n\nlast line".encode()
    file = tmp_path / f"x.{ending}"
    file.write_bytes(gzip.compress(text) if ending.endswith("gz") else text)
    assert list(read_documents(file)) == [["A b.", "C d."], ["E f.\u2028G."], ["last line"]]


@pytest.mark.parametrize(
    ("data", "message"), [(b"", "is empty"), (b"ok\n\xff\n", r"line 2 is not UTF-8"), (None, "no such file")]
)
def test_files_that_cannot_be_read(tmp_path, data, message):
    file = tmp_path / "x.txt"
    if data is not None:
        file.write_bytes(data)
    with pytest.raises(InputError, match=message):
        build_corpus(read_documents(file), tiny.tokenizer(), tmp_path / "c")
    assert small.left_in(tmp_path) == ([] if data is None else ["x.txt"])


def test_no_text(tmp_path):
    for documents in ([], [[]], [["", " "]]):
        with pytest.raises(InputError, match="holds no text"):
            build_corpus(documents, tiny.tokenizer(), tmp_path / "c")
    assert small.left_in(tmp_path) == []


@pytest.fixture
def corpus(tmp_path):
    return build_corpus(DOCUMENTS, tiny.tokenizer(), tmp_path / "c")


def test_another_tokenizer(corpus):
    corpus.check_tokenizer(tiny.tokenizer())
    with pytest.raises(InputError, match="made with another tokenizer"):
        corpus.check_tokenizer(tiny.tokenizer(lower_case=False))


def resave(corpus, kind, change):
    """As somebody would who wrote the arrays wrongly, hash and all."""
    path = corpus.folder / f"{kind}-00000.npy"
    array = np.array(np.load(path))
    np.save(path, change(array))
    corpus.manifest.shards[0].sha256[path.name] = sha256(path)


@pytest.mark.parametrize(
    "damage",
    [
        lambda c: (c.folder / "ids-00000.npy").unlink(),
        lambda c: (c.folder / "ids-00000.npy").write_bytes(b""),
        lambda c: (c.folder / "ids-00000.npy").write_bytes((c.folder / "ids-00000.npy").read_bytes()[:-3]),
        lambda c: (c.folder / "documents-00000.npy").write_bytes(b"no numpy at all"),
        lambda c: np.save(c.folder / "ids-00000.npy", np.array([{}], object), allow_pickle=True),
        lambda c: resave(c, "ids", lambda x: x[:-1]),
        lambda c: resave(c, "ids", lambda x: np.where(np.arange(len(x)) == 3, 60_000, x).astype(np.uint16)),
        lambda c: resave(c, "sentences", lambda x: x[:-1]),
        lambda c: resave(c, "sentences", lambda x: np.concatenate([x[:1], x[2:3], x[1:2], x[3:]])),
        lambda c: resave(c, "documents", lambda x: x[:1]),
        lambda c: resave(c, "documents", lambda x: x + 1),
        lambda c: resave(c, "sentences", lambda x: x[:, None]),
    ],
)
def test_damaged_shards(corpus, damage):
    damage(corpus)
    with pytest.raises(InputError, match=r"00000|shard 0 is damaged"):
        corpus.shard(0)


@pytest.mark.parametrize("kind", ["ids", "sentences", "documents"])
def test_a_changed_byte_is_found_when_a_shard_is_opened(corpus, kind):
    path = corpus.folder / f"{kind}-00000.npy"
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    with pytest.raises(InputError, match=rf"{kind}-00000.npy: is damaged: its sha256 is [0-9a-f]+…, the manifest says"):
        Corpus(corpus.folder).shard(0)


def test_a_missing_file_of_a_shard(corpus):
    (corpus.folder / "sentences-00000.npy").unlink()
    with pytest.raises(InputError, match=r"sentences-00000.npy: is missing; the corpus is not whole"):
        Corpus(corpus.folder).shard(0)


def test_a_manifest_cannot_name_files_elsewhere(corpus):
    corpus.manifest.shards[0].sha256["../manifest.json"] = "0"
    with pytest.raises(InputError, match="outside the folder"):
        corpus.shard(0)


def test_the_first_format_is_still_read(corpus):
    path = corpus.folder / "manifest.json"
    told = json.loads(path.read_text())
    old = ("halbert", "tokenizer", "vocab_size", "documents", "sentences", "tokens", "characters", "note", "unknown")
    shards = [{k: s[k] for k in ("documents", "sentences", "tokens", "sha256")} for s in told["shards"]]
    path.write_text(json.dumps({"format": 1, **{k: told[k] for k in old}, "inputs": {"x.txt": "ab"}, "shards": shards}))
    read = Corpus(corpus.folder)
    assert read_back(read) == read_back(corpus)
    assert [(source.name, source.sha256, source.bytes) for source in read.manifest.inputs] == [("x.txt", "ab", 0)]
    assert merge_corpora([corpus.folder], corpus.folder / "again").manifest.characters == told["characters"]
    path.write_text(json.dumps({**told, "format": 3}))
    with pytest.raises(InputError, match="has format 3; this release reads formats 1 to 2"):
        Corpus(corpus.folder)


def test_corpora_put_together(tmp_path):
    tokenizer = tiny.tokenizer()
    parts = [
        build_corpus(DOCUMENTS[:4], tokenizer, tmp_path / "a", shard_tokens=1, inputs={"x.txt": "1"}, language="en"),
        build_corpus(DOCUMENTS[4:], tokenizer, tmp_path / "b", note="said", inputs={"x.txt": "2"}, language="de"),
    ]
    whole = merge_corpora([tmp_path / "a", tmp_path / "b"], tmp_path / "c")
    assert read_back(whole) == read_back(parts[0]) + read_back(parts[1]) and len(whole) == sum(map(len, parts)) > 2
    m = whole.manifest
    for name in ("documents", "sentences", "tokens", "characters", "bytes", "unknown"):
        assert getattr(m, name) == sum(getattr(p.manifest, name) for p in parts), name
    assert [(s.name, s.sha256) for s in m.inputs] == [("x.txt", "1"), ("x.txt", "2")] and m.note == "said"
    assert set(m.languages) == {"en", "de"}
    assert m.languages["de"].tokens == parts[1].manifest.tokens
    other = build_corpus(DOCUMENTS, tiny.tokenizer(lower_case=False), tmp_path / "d")
    with pytest.raises(InputError, match="another tokenizer"):
        merge_corpora([tmp_path / "a", other.folder], tmp_path / "e")
    (tmp_path / "b" / "ids-00000.npy").write_bytes(b"")
    with pytest.raises(InputError, match=r"ids-00000.npy: is damaged"):
        merge_corpora([tmp_path / "a", tmp_path / "b"], tmp_path / "e")
    with pytest.raises(InputError, match="no corpus was given"):
        merge_corpora([], tmp_path / "e")
    assert not (tmp_path / "e").exists()


def test_no_corpus(tmp_path, corpus):
    with pytest.raises(InputError, match="is no corpus"):
        Corpus(tmp_path)
    manifest = json.loads((corpus.folder / "manifest.json").read_text())
    for change, message in (({"shardz": []}, "did you mean 'shards'"), ({"tokens": "many"}, "tokens")):
        (corpus.folder / "manifest.json").write_text(json.dumps({**manifest, **change}))
        with pytest.raises(InputError, match=message):
            Corpus(corpus.folder)


def test_a_full_folder_is_left_alone(corpus):
    before = {f.name: f.read_bytes() for f in corpus.folder.iterdir()}
    with pytest.raises(InputError, match="not empty"):
        build_corpus(DOCUMENTS, tiny.tokenizer(), corpus.folder)
    assert {f.name: f.read_bytes() for f in corpus.folder.iterdir()} == before
