"""Makes what TestHostileStrings and TestEveryCharacter compare with: the ids of transformers for 10,000 strings and
for every assigned character, with the published CLIP vocabulary in folders of every layout.

    python make_hostile.py                                       writes hostile.json and crc/*.bin
    python make_hostile.py --only sd1 sd2                        the same for some folders
    python make_hostile.py --count 100000 --seed 7 --out /tmp    writes /tmp/run-100000-7 for TestHostileRun

Run first with transformers 4.53.3 and diffusers 0.34.0, then with transformers 5.24.0: each does the folders that
follow it. merges.txt.gz must be there (make_tokens.py). Strings are made from hostile.json and a seed, by the rule in
`strings`, here and in hostile_test.go; ids are kept as one CRC-32 for each string.
"""

import argparse
import gzip
import json
import pathlib
import struct
import sys
import tempfile
import zlib

sys.modules["ftfy"] = None  # the ids follow transformers without it
import transformers  # noqa: E402

HERE = pathlib.Path(__file__).parent
FIVE = transformers.__version__.startswith("5.")
assert transformers.__version__ in ("4.53.3", "5.24.0")

PIECES = [
    # Words that the vocabulary has, in every case.
    ["a ", "photo", " of ", "the ", "cat", "Cat ", "DOG", " 8k ", "masterpiece", ", ", "best quality", "Hello", "WORLD", "supercalifragilistic",
     "naïve", "CAFÉ ", "it's", "THEY'RE", "I'D", "we'll", "don't ", "'S", "'LL", "'ſ", "''ſs", "ſ", "K", "Å", "Straße", "ẞ", "İstanbul", "ı", "ﬁ"],
    # Special tokens, whole, in odd case, torn.
    ["<|startoftext|>", "<|endoftext|>", "<|STARTOFTEXT|>", "<|EndOfText|>", "<|endoftext|", "|endoftext|>", "<|ſtartoftext|>", "< |endoftext|>",
     "<|endoftext|><|endoftext|>", "</w>", "a</w>", "<|startoftext|>s", "!!<|ENDOFTEXT|>!!", " <|endoftext|> ", "\u00a0<|endoftext|>\u3000"],
    # The pad token of SD 2.x, and what is near it.
    ["!", "!!", "!!!!!!", " ! ", "a!", "!a", "!\u0301", "?!", "!</w>", "¡", "！", "!1", "! !"],
    # Added tokens of the folders below, glued and near misses.
    ["<cat-toy>", "<Cat-Toy>", "<cat-toy", "cat-toy>", "<cat-toy>_1", "<cat-toy>_2", "<multi>", "<multi>_1", "<multi>_2", "<MULTI>", "sks", " sks ",
     "SKS", "sksdog", "asks", "<lr>", " <lr> ", "\t<lr>\u00a0", "x<lr>y", "<l>", "  <l>  ", "<r>", "  <r>  ", "word", " word ", "words", "sword", "word!",
     "<norm Ä>", "<NORM ä>", "<norm A\u0308>", "<<cat-toy>>", "abcab", "abc", "bcd", "cde", "abcde", "漢字", "漢", "\u0301x"],
    # Spaces and separators of every kind.
    [" ", "  ", "\t", "\n", "\r\n", "\v", "\f", "\x1c", "\x1d", "\x1e", "\x1f", "\x85", "\u00a0", "\u1680", "\u2000", "\u2003", "\u200a", "\u2028",
     "\u2029", "\u202f", "\u205f", "\u3000", "\u180e", "\u200b", "\ufeff", "\u2060"],
    # Control, format, private and unassigned characters.
    ["\x00", "\x07", "\x1b", "\x7f", "\x9f", "\u00ad", "\u200d", "\u200e", "\u202e", "\u2066", "\ufffd", "\ufffe", "\uffff", "\ue000", "\uf8ff",
     "\U000f0000", "\U0010fffd", "\U0010ffff", "\u0378", "\u05ff", "\U000323b0", "\U000e0001", "\U000e0041", "\ufdd0"],
    # Marks: alone, in order, out of order, and very many.
    ["\u0301", "\u0308", "\u0327", "\u0323", "\u0345", "α\u0345", "\u0345'", "a\u0301\u0323", "a\u0323\u0301", "e\u0301", "o\u0308\u0304", "u\u0304\u0308",
     "s\u0323\u0307", "\u0301" * 35, "a" + "\u0300\u0323" * 20, "\u0338", "=\u0338", "\u20dd", "\u0591", "\u064b", "\u3099", "か\u3099", "\u0f71\u0f72",
     "\u1100\u1161\u11a8", "\u0b47\u0b3e", "\U00011935\U00011930", "\u0898", "\u08ca\u0301", "\U00010efd\u0327", "\u212b", "\u2126", "\u1d15e"],
    # Cases that are not one to one.
    ["Σ", "ΟΔΟΣ", "ΟΔΟΣ ", "ΑΣ.", "ΑΣ'Α", "Σ\u0301", "ΑΣ\u00adΒ", "ΑΣ:", "ǅ", "Ǆ", "ᾼ", "Ω", "\u1e9e", "\u13a0", "\uab70", "\u10a0", "\u1c90",
     "\u2c2f", "\ua7c0", "\U0001e900", "\U00010400", "\ua7cb", "\ua7dc", "\U00010d50", "\u1c89", "\ua7ce", "\U00016ea0", "ⅷ", "Ⅷ", "Ⓐ"],
    # Numbers, punctuation, symbols.
    ["1", "1234", "٣", "½", "②", "𝟘", "一", "〇", "３", "...", "-", "--", "_", "'", "''", "’s", "`", "\"", "(((", "))", "[]", "{}", "<", ">", "|", "\\", "/", "#", "@",
     "$", "€", "%", "^", "&", "*", "+", "=", "~", "…", "—", "«", "。", "，", "·"],
    # Writing systems and pictures.
    ["Привет", "ПРИВЕТ", "שלום", "مرحبا", "नमस्ते", "สวัสดี", "こんにちは", "カタカナ", "你好", "漢字かな", "안녕", "豈", "丽", "𠀀", "𪛟", "𫜵", "ℵ", "∑∫", "→",
     "😀", "👩‍👩‍👧‍👦", "🏳️‍🌈", "🇩🇪", "👍🏽", "❤️", "☃", "♀", "𝕬", "ᏣᎳᎩ", "ⴰ", "ꙮ", "𒀀", "ꦀ", "᭄", "᥀", "Ꭰ", "\u0e33", "ຳ"],
]

BLOCKS = [[0, 0x7F], [0x80, 0x24F], [0x250, 0x36F], [0x370, 0x52F], [0x530, 0x8FF], [0x900, 0xDFF], [0xE00, 0x10FF], [0x1100, 0x1FFF],
          [0x2000, 0x2BFF], [0x2C00, 0x3400], [0x4DB0, 0x4E10], [0x9FE0, 0xABFF], [0xAC00, 0xD7FF], [0xE000, 0xE010], [0xF900, 0xFFFF],
          [0x10000, 0x10FFF], [0x11000, 0x12000], [0x16800, 0x18D10], [0x1AFF0, 0x1F0FF], [0x1F300, 0x1FBFF], [0x20000, 0x20010],
          [0x2A6D0, 0x2A720], [0x2B730, 0x2B830], [0x2CEA0, 0x2CEC0], [0x2EBE0, 0x2EC00], [0x2F800, 0x2FA30], [0x31340, 0x323B0], [0xE0000, 0xE0200]]

TOKEN = {"lstrip": False, "rstrip": False, "single_word": False, "normalized": True}
BOS, EOS = {"content": "<|startoftext|>", **TOKEN}, {"content": "<|endoftext|>", **TOKEN}


def typed(t):
    return {"__type": "AddedToken", **t}


def decoder(tokens):
    return {str(i): {**TOKEN, "special": False, **t} for i, t in tokens.items()}


ENDS = {49406: {"content": "<|startoftext|>", "special": True}, 49407: {"content": "<|endoftext|>", "special": True}}
CONFIG = {"add_prefix_space": False, "bos_token": typed(BOS), "do_lower_case": True, "eos_token": typed(EOS), "errors": "replace",
          "model_max_length": 77, "name_or_path": "openai/clip-vit-large-patch14", "pad_token": "<|endoftext|>",
          "special_tokens_map_file": "./special_tokens_map.json", "tokenizer_class": "CLIPTokenizer", "unk_token": typed(EOS)}
MAP = {"bos_token": BOS, "eos_token": EOS, "pad_token": "<|endoftext|>", "unk_token": EOS}
ADDED = {49408: {"content": "<cat-toy>"}, 49409: {"content": "<multi>"}, 49410: {"content": "<multi>_1"}, 49411: {"content": "<multi>_2"},
         49412: {"content": "sks"}, 49413: {"content": "<lr>", "lstrip": True, "rstrip": True}, 49414: {"content": "<l>", "lstrip": True},
         49415: {"content": "<r>", "rstrip": True}, 49416: {"content": "word", "single_word": True}, 49417: {"content": "<norm Ä>"},
         49418: {"content": "abc"}, 49419: {"content": "bcd", "special": True}, 49420: {"content": "abcde", "normalized": False},
         49421: {"content": "漢字", "single_word": True, "lstrip": True}, 49422: {"content": "\u0301x", "normalized": False}}
NO_VECTORS = {i: t for i, t in ADDED.items() if "_" not in t["content"]}
SKELETON = {
    "version": "1.0", "truncation": None, "padding": None, "added_tokens": [],
    "normalizer": {"type": "Sequence", "normalizers": [{"type": "NFC"}, {"type": "Replace", "pattern": {"Regex": "\\s+"}, "content": " "}, {"type": "Lowercase"}]},
    "pre_tokenizer": {"type": "Sequence", "pretokenizers": [
        {"type": "Split", "pattern": {"Regex": "'s|'t|'re|'ve|'m|'ll|'d|[\\p{L}]+|[\\p{N}]|[^\\s\\p{L}\\p{N}]+"}, "behavior": "Removed", "invert": True},
        {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True}]},
    "post_processor": {"type": "RobertaProcessing", "sep": ["<|endoftext|>", 49407], "cls": ["<|startoftext|>", 49406], "trim_offsets": False, "add_prefix_space": False},
    "decoder": {"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": True},
    "model": {"type": "BPE", "dropout": None, "unk_token": "<|endoftext|>", "continuing_subword_prefix": "", "end_of_word_suffix": "</w>", "fuse_unk": False,
              "vocab": {}, "merges": []}}


def serialized(tokens, specials_in_pattern=False):
    s = json.loads(json.dumps(SKELETON))
    s["added_tokens"] = [{"id": i, "special": False, **TOKEN, **t} for i, t in {**ENDS, **tokens}.items()]
    if specials_in_pattern:  # as transformers 5 writes it
        for t in s["added_tokens"]:
            t["normalized"] = not t["special"]
        split = s["pre_tokenizer"]["pretokenizers"][0]["pattern"]
        split["Regex"] = "<\\|startoftext\\|>|<\\|endoftext\\|>|" + split["Regex"]
    return s


# The folders: class, files beside vocab.json and merges.txt (which "alone" leaves out), what Git tracks in them.
FOLDERS = {
    "sd1": ("CLIPTokenizer", {"tokenizer_config.json": CONFIG, "special_tokens_map.json": MAP}),
    "sd2": ("CLIPTokenizer", {"tokenizer_config.json": CONFIG, "special_tokens_map.json": {**MAP, "pad_token": "!"}}),
    "sdxl2": ("CLIPTokenizer", {"tokenizer_config.json": {
        **CONFIG, "bos_token": "<|startoftext|>", "eos_token": "<|endoftext|>", "unk_token": "<|endoftext|>", "pad_token": "!",
        "added_tokens_decoder": decoder({0: {"content": "!", "special": True, "normalized": False}, **ENDS})}, "special_tokens_map.json": MAP}),
    "added_old": ("CLIPTokenizer", {"tokenizer_config.json": CONFIG, "special_tokens_map.json": {**MAP, "additional_special_tokens": ["bcd", "\u0301x"]},
                                    "added_tokens.json": {t["content"]: i for i, t in ADDED.items()}}),
    "added_new": ("CLIPTokenizer", {"tokenizer_config.json": {**CONFIG, "model_max_length": 40, "padding_side": "left", "truncation_side": "left",
                                                              "added_tokens_decoder": decoder({**ENDS, **ADDED})}}),
    "fast_json": ("CLIPTokenizerFast", {"tokenizer_config.json": CONFIG, "tokenizer.json": serialized(ADDED)}),
    "fast_slow": ("CLIPTokenizerFast", {"tokenizer_config.json": {**CONFIG, "pad_token": "!", "added_tokens_decoder": decoder({**ENDS, **ADDED})}}),
    "alone": ("CLIPTokenizer", {"tokenizer_config.json": {**CONFIG, "bos_token": "<|startoftext|>", "eos_token": "<|endoftext|>", "unk_token": "<|endoftext|>"},
                                "tokenizer.json": serialized(NO_VECTORS, True)}),
}
LEFT_OUT = {"alone": ("vocab.json", "merges.txt"), "fast_json": ("vocab.json", "merges.txt")}
CHARACTERS = ("sd1", "fast_json", "alone")


class Random:
    """splitmix64"""

    def __init__(self, seed):
        self.state = seed

    def below(self, n):
        self.state = (self.state + 0x9E3779B97F4A7C15) & (1 << 64) - 1
        z = self.state
        z = ((z ^ z >> 30) * 0xBF58476D1CE4E5B9) & (1 << 64) - 1
        z = ((z ^ z >> 27) * 0x94D049BB133111EB) & (1 << 64) - 1
        return (z ^ z >> 31) % n


def character(c):
    return "a" if 0xD800 <= c < 0xE000 else chr(c)


def strings(n, seed):
    """n strings: each of up to 24 pieces, now and then of up to 200."""
    rng = Random(seed)
    out = []
    for _ in range(n):
        count, s = rng.below(200) if rng.below(50) == 0 else rng.below(24), []
        for _ in range(count):
            kind = rng.below(4 + 2 * len(PIECES))
            if kind == 0:
                s.append(character(rng.below(0x110000)))
            elif kind == 1:
                s.append(character(rng.below(0x10000)))
            elif kind < 4:
                first, last = BLOCKS[rng.below(len(BLOCKS))]
                s.append(character(first + rng.below(last - first + 1)))
            else:
                pieces = PIECES[(kind - 4) // 2]
                s.append(pieces[rng.below(len(pieces))])
        out.append("".join(s))
    return out


def about(c):
    """A text with a character in the places where something may depend on it."""
    ch = chr(c)
    return f"{ch}Σ A{ch}Σ AΣ{ch}b '{ch} 1{ch}{ch}! q\u0323{ch}\u0327 e{ch}\u0301"


# Where all characters are alike, or none is assigned, each 16th is compared.
ALIKE = [[0x3400, 0x4DBF], [0x4E00, 0x9FFF], [0xAC00, 0xD7FF], [0xE000, 0xF8FF], [0x17000, 0x18CFF], [0x20000, 0xDFFFF], [0xE1000, 0x10FFFF]]


def blocks():
    """The characters compared, 256 to a block."""
    for first in range(0, 0x110000, 256):
        step = 16 if any(a <= first <= b for a, b in ALIKE) else 1
        yield [c for c in range(first, first + 256, step) if not 0xD800 <= c < 0xE000]


def folder(where, name, vocabulary, merges):
    class_name, files = FOLDERS[name]
    where.mkdir()
    for file, content in files.items():
        if file == "tokenizer.json":
            content = json.loads(json.dumps(content))
            content["model"] |= {"vocab": vocabulary, "merges": merges}
        (where / file).write_text(json.dumps(content), encoding="utf-8")
    if name not in LEFT_OUT:
        (where / "vocab.json").write_text(json.dumps(vocabulary), encoding="utf-8")
        (where / "merges.txt").write_text("#version: 0.2\n" + "\n".join(merges) + "\n", encoding="utf-8")
    return getattr(transformers, class_name).from_pretrained(where)


def encoder(tokenizer):
    if FIVE:
        def convert(prompt, _):
            return prompt
    else:
        from diffusers.loaders import TextualInversionLoaderMixin
        convert = TextualInversionLoaderMixin().maybe_convert_prompt

    def encode(prompt):
        ids = tokenizer(convert(prompt, tokenizer), padding="max_length", max_length=tokenizer.model_max_length, truncation=True).input_ids
        assert len(ids) == tokenizer.model_max_length
        return ids

    return encode


def crc(lists):
    value = 0
    for ids in lists:
        value = zlib.crc32(struct.pack(f"<{len(ids)}i", *ids), value)
    return value


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--count", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=12)
    parser.add_argument("--out", type=pathlib.Path)
    parser.add_argument("--only", nargs="+", default=list(FOLDERS))
    a = parser.parse_args()
    merges = gzip.open(HERE / "merges.txt.gz").read().decode().strip().split("\n")[1:]
    vocabulary = published(merges)
    out = a.out / f"run-{a.count}-{a.seed}" if a.out else HERE / "crc"
    out.mkdir(exist_ok=True)
    if not a.out:
        text = json.dumps({"pieces": PIECES, "blocks": BLOCKS, "alike": ALIKE, "folders": FOLDERS, "left_out": LEFT_OUT}, indent=1)
        (HERE / "hostile.json").write_text(text + "\n")
    prompts = strings(a.count, a.seed)
    with tempfile.TemporaryDirectory() as d:
        for name in a.only:
            if (name == "alone") != FIVE:
                continue
            encode = encoder(folder(pathlib.Path(d) / name, name, vocabulary, merges))
            write(out / f"{name}.bin", [crc([encode(p)]) for p in prompts])
            if name in CHARACTERS and not a.out:
                write(out / f"{name}_characters.bin", [crc(encode(about(c)) for c in block) for block in blocks()])
            print(name, len(prompts), flush=True)


def write(file, sums):
    file.write_bytes(struct.pack(f"<{len(sums)}I", *sums))


def published(merges):
    from tokenizers import pre_tokenizers
    symbols = sorted(pre_tokenizers.ByteLevel.alphabet())
    words = symbols + [s + "</w>" for s in symbols] + [m.replace(" ", "") for m in merges] + ["<|startoftext|>", "<|endoftext|>"]
    return {t: i for i, t in enumerate(words)}


if __name__ == "__main__":
    main()
