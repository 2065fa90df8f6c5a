"""Makes tokens.json: the ids of transformers' CLIPTokenizer, with the published CLIP vocabulary, for many prompts.

    python make_tokens.py bpe_simple_vocab_16e6.txt.gz

The argument is the file of that name in the Python package open_clip_torch 2.32.0 (or OpenAI's CLIP repository). The
merges that the tokenizer uses are written to merges.txt.gz.
"""

import gzip
import json
import pathlib
import random
import sys
import tempfile

sys.modules["ftfy"] = None  # the ids do not depend on whether it is installed
from transformers import CLIPTokenizer  # noqa: E402
from transformers.models.clip.tokenization_clip import bytes_to_unicode  # noqa: E402

HERE = pathlib.Path(__file__).parent

FIXED = [
    "", " ", "\t\n ", "a", "A photo of a cat", "a photograph of an astronaut riding a horse", "Hello, World!", "it's they're I'd we'll I've don't I'm",
    "IT'S THEY'RE I'D WE'LL", "''s 's's '", "can’t won’t", "1234567890", "3.14159 and 2,718", "v1.5 x86_64 #hashtag @user", "C++ && C# || F!",
    "(((masterpiece))), [[best quality]], {ultra-detailed}", "<|endoftext|>", "<|startoftext|>a<|endoftext|>b", "x<|ENDOFTEXT|>y", "< |endoftext| >",
    "naïve café résumé", "nai\u0308ve cafe\u0301", "ÀÉÎÕÜ ÇŞĞİ", "İstanbul ISTANBUL ıi", "ΣΊΣΥΦΟΣ ΟΔΟΣ", "Straße STRASSE ẞ", "Привет, мир", "שלום עולם", "مرحبا بالعالم",
    "नमस्ते दुनिया", "สวัสดีชาวโลก", "こんにちは世界", "你好，世界！", "안녕하세요 세계", "漢字kanji漢字", "a红b色c", "😀", "👩‍👩‍👧‍👦 family", "🏳️‍🌈🇩🇪", "🙂🙃🙂", "e\u0301e\u0301", "\u200bzero\u200bwidth\ufeff",
    "non\u00a0breaking\u2003spaces\u3000here", "line\u2028separator\u2029here", "tab\tnew\nline\r\nreturn", "null\x00byte\x07bell", "soft\u00adhyphen", "\ufffdreplacement",
    "½ ¾ ² ³ ① Ⅷ ٣ ७", "∑∫√∞≠≤≥", "→←↑↓", "“quoted” ‘single’ «guillemets»", "…—–", "$100 €50 £20 ¥1000", "50% off!!!", "?!?!?!", "...", "_under_score_", "snake_case camelCase kebab-case",
    "http://example.com/path?query=1&b=2#frag", "user@example.com", "C:\\Windows\\System32", "/usr/local/bin", "2024-01-02T03:04:05Z", "supercalifragilisticexpialidocious",
    "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa", "zqxjkvbzqxjkvb", "ǅ ǆ Ǆ ﬁ ﬀ", "Å Å Å", "\U0001d400\U0001d401", "𠀀𠀁", "ﷺ", "ⅰⅱ", "·middle·dot·", "a\u0300\u0301\u0302\u0303", "Ω Ω",
    "very " * 90, "a cat, " * 40, "word" * 100, "1 2 3 4 5 6 7 8 9 " * 10, "👍" * 40, "漢" * 100, "." * 300, "it's " * 60,
]


def prompts():
    rng = random.Random(0)
    words = ("a an the cat dog castle mountain river portrait watercolor oil painting cinematic lighting hyperrealistic 8k octane render trending on artstation by "
             "greg rutkowski studio ghibli sunset neon cyberpunk steampunk dragon knight astronaut horse riding beautiful intricate detailed sharp focus bokeh 35mm f/1.8").split()
    alphabets = ["abcdefghijklmnopqrstuvwxyz", "ABCXYZ àéîõüçñß", "αβγδεζηθ ΑΒΓ", "абвгдежз АБВ", "你我他天地人", "あいうえおカキク", "한국어조선말", "0123456789.,", "!?'\"()[]{}<>|/\\-_=+*&^%$#@~`", "😀🎉🚀❤️👍🏽", " \t\u00a0\u3000"]
    out = list(FIXED)
    while len(out) < 330:
        n = rng.randint(1, 40)
        out.append(rng.choice([" ", ", ", "  ", " - "]).join(rng.choice([str, str.title, str.upper])(rng.choice(words)) for _ in range(n)))
    while len(out) < 620:
        out.append("".join(rng.choice(rng.choice(alphabets)) if rng.random() < 0.8 else rng.choice(words) for _ in range(rng.randint(1, 60))))
    return out


def main():
    merges = gzip.open(sys.argv[1]).read().decode().split("\n")[1 : 49152 - 256 - 2 + 1]
    with gzip.GzipFile(HERE / "merges.txt.gz", "wb", mtime=0) as f:
        f.write(("#version: 0.2\n" + "\n".join(merges) + "\n").encode())
    symbols = list(bytes_to_unicode().values())
    vocabulary = symbols + [s + "</w>" for s in symbols] + [m.replace(" ", "") for m in merges] + ["<|startoftext|>", "<|endoftext|>"]
    with tempfile.TemporaryDirectory() as d:
        d = pathlib.Path(d)
        (d / "vocab.json").write_text(json.dumps({t: i for i, t in enumerate(vocabulary)}))
        (d / "merges.txt").write_text("#version: 0.2\n" + "\n".join(merges) + "\n")
        tok = CLIPTokenizer(d / "vocab.json", d / "merges.txt", model_max_length=77)
        lines = []
        for p in prompts():
            ids = tok(p).input_ids
            # The ends are always the same; what does not fit is cut off by the test.
            assert ids[0] == 49406 and ids[-1] == 49407
            lines.append(json.dumps([p, ids[1:-1]], separators=(",", ":")))
    (HERE / "tokens.json").write_text("[\n" + ",\n".join(lines) + "\n]\n")


if __name__ == "__main__":
    main()
