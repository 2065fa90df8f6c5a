package textenc

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/euryale-ml/euryale/internal/badmodel"
	"github.com/euryale-ml/euryale/internal/bounded"
)

// A prompt is refused if it is too long or not UTF-8, and only then; otherwise it becomes as many ids as the
// encoder takes, all of the vocabulary.
func FuzzEncode(f *testing.F) {
	tok, err := NewTokenizer(published(f))
	if err != nil {
		f.Fatal(err)
	}
	for _, s := range []string{"", "a cat", "İ<|endoftext|>", "👩‍👩‍👧", "\xff", "a\x00b", "it's </w> </W> x\u0345y 漢字 12",
		strings.Repeat("ab", 200)} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		var enc Encoding
		var err error
		bounded.Do(t, 256, 5*time.Second, func() { enc, err = tok.Encode(s) })
		if (err == nil) != (utf8.ValidString(s) && len(s) <= 64<<10) {
			t.Fatalf("%q: %v", s, err)
		}
		if err != nil {
			return
		}
		checkEncoding(t, tok, s, enc)
		// The ids say the words of the prompt, byte for byte; but in a prompt a special token may be a part of a longer word.
		if want := strings.Join(tok.hf.Rules.Words(s), " "); !strings.Contains(want, "<|") {
			ids, err := tok.all(s)
			if err != nil {
				t.Fatal(err)
			}
			if got := tok.decode(ids); got != want {
				t.Fatalf("%q: the ids say %q, the prompt %q", s, got, want)
			}
		}
	})
}

// Files are refused with an error that names one, or they make a tokenizer that takes any text.
func FuzzTokenizerFiles(f *testing.F) {
	for _, c := range readPrecedence(f).Cases {
		g := c.files()
		f.Add(string(g.Vocab), string(g.Merges), string(g.TokenizerConfig), string(g.SpecialTokens), string(g.AddedTokens),
			string(g.TokenizerJSON), c.Class == "CLIPTokenizerFast")
	}
	f.Add(`{"a": 0, "a</w>": 1, "<|startoftext|>": 5, "<|endoftext|>": 9}`, "a a</w>\r\n",
		`{"model_max_length": 9, "pad_token": "a"}`, `{"pad_token": {"content": "a"}}`, `{"ab": 20}`, "", true)
	f.Add(`{"": 0, "a": 1}`, "", `{"model_max_length": 9, "bos_token": "a", "eos_token": "a", "pad_token": "a"}`,
		`{}`, `{}`, "", false)
	f.Add(`{"a": -1, "b": 1048576}`, "a\nb b b\n", `{"model_max_length": 1e30}`, `[]`, `[]`, `{}`, true)
	file := func(s string) []byte {
		if s == "" {
			return nil
		}
		return []byte(s)
	}
	f.Fuzz(func(t *testing.T, vocab, merges, config, specials, added, whole string, fast bool) {
		var tok *Tokenizer
		var err error
		files := TokenizerFiles{Dir: "tokenizer", Vocab: file(vocab), Merges: file(merges), TokenizerConfig: file(config),
			SpecialTokens: file(specials), AddedTokens: file(added), TokenizerJSON: file(whole)}
		if fast {
			files.Class = "CLIPTokenizerFast"
		}
		bounded.Do(t, 64, 2*time.Second, func() { tok, err = NewTokenizer(files) })
		if err != nil {
			var e *badmodel.Error
			if !errors.As(err, &e) || !strings.HasPrefix(e.File, "tokenizer/") {
				t.Fatalf("%v names no file", err)
			}
			return
		}
		for _, s := range []string{"", "ab aab abab", "<|startoftext|> é 漢"} {
			var enc Encoding
			bounded.Do(t, 64, 2*time.Second, func() { enc, err = tok.Encode(s) })
			if err == nil { // else a token has no id, or has too many vectors
				checkEncoding(t, tok, s, enc)
			}
		}
	})
}

// checkEncoding checks what every encoding has: begin, ids of the vocabulary, end, padding.
func checkEncoding(t *testing.T, tok *Tokenizer, s string, enc Encoding) {
	t.Helper()
	if len(enc.IDs) != tok.MaxLength() || !slices.Contains(enc.IDs, tok.hf.Begin) {
		t.Fatalf("%q: %d ids, among them no begin", s, len(enc.IDs))
	}
	end := false
	for _, id := range enc.IDs {
		if id < 0 || int(id) >= tok.VocabSize() {
			t.Fatalf("%q: id %d is not in the vocabulary", s, id)
		}
		end = end || id == tok.hf.End
	}
	if !end || !utf8.ValidString(enc.Truncated) {
		t.Fatalf("%q: no end, or the rest %q is not text", s, enc.Truncated)
	}
}
