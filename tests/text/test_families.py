# ruff: noqa: RUF001 (letters that look like others are what is tested)
"""Each family's tokenizer against the library that its checkpoints were published with."""

import json
import pathlib
import unicodedata

import pytest

from kzoo.errors import KzooError
from kzoo.text import Tokenizer, has_tokenizer
from tests.optional import require
from tests.text.vocabularies import CORPUS, FAMILIES, write, write_json

NASTY = [
    *CORPUS,
    *["", " ", "   leading", "trailing   ", "a  b   c", "line\nbreak\r\n\ttab", "\n\n \n"],
    *["naïve café Größe", "nai\u0308ve cafe\u0301", "e\u0301\u0302\u0323", "a\u0300\u0316b", "İ ǅ ß ẞ Σας"],
    *[
        "🎉 👨\u200d👩\u200d👧 🇨🇿 👍🏽 \U0001f468\u200d\U0001f4bb\ufe0f",
        "我爱北京。日本語",
        "한국어 \u1112\u1161\u11ab",
    ],
    *[
        "שלום عالم ﷽ \u202eabc\u202c",
        "ไทย नमस्ते क्षि",
        "zero\x00null\x07bell\x7f",
        "\u200bw\ufeffb\u00ads\u2060",
    ],
    *["x" * 300, "dog" * 100, "日" * 150, "§§ ¤¤ ₿", "ＦＵＬＬ １２３ Ａ\u0301 ｶﾞ", "ﬁ ½ ² ™ … ㌔ Å"],
    *["it's we're DON'T I'LL", "``quoted'' \"x\"", "1,234,567.89", "-- ** // (a)-b", "\u2581under \u2581"],
    *["\u00a0nbsp\u3000wide\u2028ls\u0085nel", "\ufffd \U0010ffff", "<0x0A> a<0xFF>", "Ööß öß ÄÖÜ"],
    "</s> <pad> <unk> <s> [MASK] <mask> [CLS]x[SEP] <extra_id_0> <|endoftext|> <|startoftext|>",
]
PAIRS = [("The dog runs", "a cat sleeps"), ("", "x"), ("日本", " ")]

REFERENCES = {
    "bert": "BertTokenizer",
    "distilbert": "DistilBertTokenizer",
    "electra": "BertTokenizer",
    "gpt2": "GPT2Tokenizer",
    "qwen2": "Qwen2Tokenizer",
    "roberta": "RobertaTokenizer",
    "bart": "BartTokenizer",
    "clip": "CLIPTokenizer",
    "t5": "T5Tokenizer",
    "albert": "AlbertTokenizer",
    "xlm-roberta": "XLMRobertaTokenizer",
    "llama": "LlamaTokenizer",
    "marian": "MarianTokenizer",
}
# To kzoo, special tokens written in a text are plain text where the vocabulary has no mask.
PLAIN = {"gpt2", "qwen2", "clip", "llama", "marian"}


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    made: dict[str, pathlib.Path] = {}

    def folder(family: str) -> pathlib.Path:
        if family not in made:
            made[family] = write(tmp_path_factory.mktemp(family), family)
        return made[family]

    return folder


@pytest.fixture
def copied(folders, tmp_path):
    """A family's files, to be changed."""

    def copy(family: str) -> pathlib.Path:
        for file in folders(family).iterdir():
            (tmp_path / file.name).write_bytes(file.read_bytes())
        return tmp_path

    return copy


def reference(family, folder):
    return getattr(require("transformers"), REFERENCES[family]).from_pretrained(folder)


def rows(tokenizer, texts, **options):
    """Token ids and type ids of texts, without padding."""
    encoding = tokenizer.encode(texts, max_length=10_000, **options)
    sizes = encoding.attention_mask.sum(axis=1)
    return [
        (ids[:size].tolist(), types[:size].tolist())
        for ids, types, size in zip(encoding.input_ids, encoding.token_type_ids, sizes, strict=True)
    ]


def assert_same_ids(family, tokenizer, other, texts=NASTY):
    options = {"split_special_tokens": True} if family in PLAIN else {}
    for text, (ids, _) in zip(texts, rows(tokenizer, texts), strict=True):
        assert ids == other(text, **options)["input_ids"], repr(text)
    for pair, (ids, types) in zip(PAIRS, rows(tokenizer, PAIRS), strict=True):
        expected = other(*pair, **options)
        assert ids == expected["input_ids"], pair
        assert types == expected.get("token_type_ids", types), pair


@pytest.mark.parametrize("family", FAMILIES)
def test_ids_texts_and_roles_are_the_originals(family, folders):
    folder = folders(family)
    tokenizer, other = Tokenizer.from_file(folder), reference(family, folder)
    assert has_tokenizer(folder)
    assert_same_ids(family, tokenizer, other)
    for ids, _ in rows(tokenizer, NASTY):
        expected = other.decode(ids, skip_special_tokens=True, clean_up_tokenization_spaces=False)
        assert tokenizer.decode(ids) == expected
    assert tokenizer.vocab_size == len(other)
    if other.pad_token_id is not None:
        assert tokenizer.pad_id == other.pad_token_id
    assert tokenizer.end_id == (other.sep_token_id if other.eos_token is None else other.eos_token_id)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_saved_tokenizer_is_the_same_here_and_in_the_original_library(family, folders, tmp_path):
    tokenizer = Tokenizer.from_file(folders(family))
    tokenizer.start_id = 7
    tokenizer.save(tmp_path / "tokenizer.json")
    again = Tokenizer.from_file(tmp_path)
    assert (again.pad_id, again.start_id, again.end_id) == (tokenizer.pad_id, 7, tokenizer.end_id)
    assert rows(again, NASTY + PAIRS) == rows(tokenizer, NASTY + PAIRS)
    assert rows(again, NASTY, target=True) == rows(tokenizer, NASTY, target=True)
    if family == "marian":  # whose two models the original reads from files of their own
        for name, content in tokenizer.companions().items():
            (tmp_path / name).write_bytes(content)
        other = reference(family, tmp_path)
    else:
        (tmp_path / "config.json").write_bytes((folders(family) / "config.json").read_bytes())
        write_json(tmp_path / "tokenizer_config.json", {"tokenizer_class": "PreTrainedTokenizerFast"})
        other = require("transformers").AutoTokenizer.from_pretrained(tmp_path)
    assert_same_ids(family, tokenizer, other)


@pytest.mark.parametrize("family", ["bert", "gpt2", "roberta", "t5", "albert", "llama"])
def test_a_folder_that_the_original_library_saved(family, folders, tmp_path):
    other = reference(family, folders(family))
    other.save_pretrained(tmp_path)
    assert (tmp_path / "tokenizer.json").is_file()
    assert_same_ids(family, Tokenizer.from_file(tmp_path), other)


def test_decoders_start_with(folders, copied):
    starts = {
        family: Tokenizer.from_file(folders(family)).start_id
        for family in ("bert", "roberta", "bart", "t5", "llama", "clip", "marian")
    }
    tokens = {"bert": "[CLS]", "roberta": "<s>", "bart": "</s>", "t5": "<pad>", "llama": "<s>"}
    tokens |= {"clip": "<|startoftext|>", "marian": "<pad>"}
    for family, token in tokens.items():
        assert starts[family] == Tokenizer.from_file(folders(family)).token_id(token), family
    folder = copied("bart")
    write_json(folder / "config.json", {"model_type": "bart", "decoder_start_token_id": 9})
    assert Tokenizer.from_file(folder).start_id == 9


@pytest.mark.parametrize(
    ("family", "settings"),
    [
        ("bert", {"do_lower_case": False}),
        ("bert", {"do_lower_case": True, "strip_accents": False}),
        ("bert", {"do_lower_case": False, "strip_accents": True, "tokenize_chinese_chars": False}),
        ("gpt2", {"add_prefix_space": True, "add_bos_token": True}),
        ("roberta", {"add_prefix_space": True}),
        ("llama", {"add_bos_token": True, "add_eos_token": True, "legacy": True}),
        ("albert", {"do_lower_case": False, "keep_accents": True}),
        ("t5", {"extra_ids": 3}),
        (
            "bert",
            {
                "do_lower_case": True,
                "additional_special_tokens": ["dog"],
                "cls_token": "park",
                "mask_token": "sofa",
            },
        ),
        (
            "gpt2",
            {"pad_token": "<pad>", "added_tokens_decoder": {"450": {"content": "<pad>", "special": True}}},
        ),
    ],
)
def test_tokenizer_config_is_followed(family, settings, copied):
    folder = copied(family)
    write_json(folder / "tokenizer_config.json", settings)
    tokenizer, other = Tokenizer.from_file(folder), reference(family, folder)
    assert_same_ids(family, tokenizer, other)
    assert tokenizer.vocab_size == len(other)


def test_older_files_name_added_and_special_tokens(copied):
    folder = copied("roberta")
    write_json(folder / "added_tokens.json", {"<en>": 450, "Käse": 451})
    mask = {"content": "<mask>", "lstrip": True, "rstrip": False, "normalized": False, "single_word": False}
    write_json(
        folder / "special_tokens_map.json", {"mask_token": mask, "additional_special_tokens": ["<en>"]}
    )
    tokenizer, other = Tokenizer.from_file(folder), reference("roberta", folder)
    assert_same_ids("roberta", tokenizer, other, [*NASTY, "a <en> b <mask> c Käse"])
    write_json(folder / "added_tokens.json", {"<en>": 460})
    with pytest.raises(KzooError, match="<en> has the id 460, but the vocabulary makes it 450"):
        Tokenizer.from_file(folder)


def test_tokenizer_config_counts_more_than_tokenizer_json_in_case(folders, tmp_path):
    Tokenizer.from_file(folders("bert")).save(tmp_path / "tokenizer.json")
    texts = ["The Größe"]
    for lowercase in (True, False):
        write_json(tmp_path / "tokenizer_config.json", {"do_lower_case": lowercase})
        ids = rows(Tokenizer.from_file(tmp_path), texts)
        assert ids == rows(reference_like(folders("bert"), lowercase, tmp_path / "other"), texts)


def reference_like(folder, lowercase, copy):
    copy.mkdir(exist_ok=True)
    (copy / "vocab.txt").write_bytes((folder / "vocab.txt").read_bytes())
    write_json(copy / "tokenizer_config.json", {"do_lower_case": lowercase})
    return Tokenizer.from_file(copy)


def test_marian_splits_what_it_writes_in_another_way(folders):
    folder = folders("marian")
    tokenizer, other = Tokenizer.from_file(folder), reference("marian", folder)
    targets = rows(tokenizer, NASTY, target=True)
    for text, (ids, _) in zip(NASTY, targets, strict=True):
        assert ids == other(text_target=text, split_special_tokens=True)["input_ids"], repr(text)
    assert targets != rows(tokenizer, NASTY)
    for text in (">>fr<< a cat", ">>xx<<a cat", "a >>fr<< cat", ">> a", ">>fr<<"):
        assert rows(tokenizer, [text])[0][0] == other(text, split_special_tokens=True)["input_ids"], text
    assert rows(tokenizer, [">>fr<< a cat"])[0][0][0] == tokenizer.token_id(">>fr<<")


def test_marian_offsets_count_characters_of_the_text_itself(folders):
    tokenizer = Tokenizer.from_file(folders("marian"))
    text = "  Ｔｈｅ   do\u200bg"
    encoding = tokenizer.encode([text, "x" * 50], max_length=20, offsets=True)
    assert (encoding.offsets[0][encoding.sequence_ids[0] == -1] == 0).all()
    for token, (start, end) in zip(encoding.input_ids[0], encoding.offsets[0], strict=True):
        piece = tokenizer.decode([token])
        if piece and end > start:
            assert unicodedata.normalize("NFKC", text[start:end]).strip() == piece
    assert encoding.truncated.tolist() == [False, True]


def test_without_config_the_files_tell_the_family(copied):
    for family in ("roberta", "clip", "gpt2", "t5", "albert", "xlm-roberta", "llama", "marian", "bert"):
        folder = copied(family)
        expected = rows(Tokenizer.from_file(folder), NASTY)
        (folder / "config.json").unlink()
        assert rows(Tokenizer.from_file(folder), NASTY) == expected, family
        for file in folder.iterdir():
            file.unlink()
    assert not has_tokenizer(folder)


@pytest.mark.parametrize(
    ("family", "file", "content", "message"),
    [
        ("gpt2", "merges.txt", b"#version: 0.2\na b c\n", r"merges\.txt has a line that is no pair"),
        ("gpt2", "merges.txt", b"zz qq\n", "do not fit together"),
        ("gpt2", "vocab.json", b'{"a": ', r"vocab\.json is no JSON object"),
        ("gpt2", "vocab.json", b'{"a": "b"}', "no number"),
        ("roberta", "vocab.json", b'{"a": 0}', "do not fit together|needs the token"),
        ("bert", "tokenizer_config.json", b'{"do_lower_case": "yes"}', "takes true or false"),
        ("bert", "tokenizer_config.json", b'{"added_tokens_decoder": [1]}', "added tokens that are none"),
        ("bert", "config.json", b"[]", r"config\.json is no JSON object"),
        ("t5", "spiece.model", b"not a model", r"spiece\.model: it is no SentencePiece model"),
        ("marian", "vocab.json", b'{"</s>": 0, "<unk>": 1}', "lacks <pad>"),
        ("marian", "vocab.json", b'{"</s>": 0, "<unk>": 1, "<pad>": 3}', "ids 0 to 2"),
        ("marian", "target.spm", b"\x00", r"target\.spm cannot be used"),
        ("t5", "tokenizer_config.json", b'{"extra_ids": -1}', "extra_ids=-1"),
        ("bart", "config.json", b'{"model_type": "bart", "decoder_start_token_id": "x"}', "token's id"),
    ],
)
def test_files_that_do_not_fit_are_named(family, file, content, message, copied):
    folder = copied(family)
    (folder / file).write_bytes(content)
    with pytest.raises(KzooError, match=message):
        Tokenizer.from_file(folder)


def test_a_family_without_its_files(copied):
    folder = copied("gpt2")
    (folder / "merges.txt").unlink()
    with pytest.raises(KzooError, match=r"no tokenizer\.json and no merges\.txt"):
        Tokenizer.from_file(folder)
    with pytest.raises(KzooError, match=r"is no tokenizer\.json, vocab\.txt or \.model file"):
        (folder / "source.spm").write_bytes(b"")
        Tokenizer.from_file(folder / "source.spm")


def test_single_files(folders):
    folder = folders("t5")
    assert rows(Tokenizer.from_file(folder / "spiece.model"), NASTY) == rows(
        Tokenizer.from_file(folder), NASTY
    )


def test_what_the_file_format_has_no_place_for_stays_out_of_the_way(folders):
    plain = Tokenizer.from_file(folders("gpt2"))
    assert "kzoo" not in json.loads(plain.to_json())["model"]
    plain.pad_id = 5
    content = json.loads(plain.to_json())
    assert content["model"]["kzoo"] == {"pad_id": 5}
    assert Tokenizer.from_json(json.dumps(content)).pad_id == 5
