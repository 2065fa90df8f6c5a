package hftokenizer

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/euryale-ml/euryale/internal/badmodel"
)

// good is a tokenizer of two letters.
func good() Files {
	return Files{Dir: "tokenizer", Vocab: []byte(`{"a": 0, "b": 1, "ab": 2, "<|startoftext|>": 3, "<|endoftext|>": 4}`),
		Merges: []byte("#version: 0.2\na b\n"), TokenizerConfig: []byte(`{"model_max_length": 77}`)}
}

func TestBadTokenizerFiles(t *testing.T) {
	if _, err := Read(good()); err != nil {
		t.Fatal(err)
	}
	crlf := good()
	crlf.Merges = []byte("a b\r\n\r\n")
	if tok, err := Read(crlf); err != nil || len(tok.Merges) != 0 {
		t.Errorf("CRLF and no header line: %v", err)
	}
	for _, c := range []struct {
		name, want string
		change     func(*Files)
	}{
		{"vocab is not an object", "vocab.json", func(f *Files) { f.Vocab = []byte(`[]`) }},
		{"vocab is empty", "vocab.json", func(f *Files) { f.Vocab = nil }},
		{"a token comes twice", "3 tokens, 2 of them different",
			func(f *Files) { f.Vocab = []byte(`{"a": 0, "b\":": 1, "a": 2}`) }},
		{"more tokens than the limit", "5 tokens, want at most 4, the limit Tokens", func(f *Files) { f.MaxTokens = 4 }},
		{"two tokens have one id", "vocab.json", func(f *Files) { f.Vocab = []byte(`{"a": 0, "b": 0}`) }},
		{"an id is negative", "vocab.json: a: -1", func(f *Files) { f.Vocab = []byte(`{"a": -1}`) }},
		{"an id is huge", "vocab.json: a: 1048576", func(f *Files) { f.Vocab = []byte(`{"a": 1048576}`) }},
		{"a merge of one part", "merges.txt: line 2", func(f *Files) { f.Merges = []byte("#version: 0.2\na\n") }},
		{"a merge of three parts", "merges.txt: line 1", func(f *Files) { f.Merges = []byte("a b b\n") }},
		{"a merge into no token", "merges.txt: line 1", func(f *Files) { f.Merges = []byte("b a\n") }},
		{"merges on one endless line", "merges.txt: line 1", func(f *Files) { f.Merges = bytes.Repeat([]byte("ab"), 1<<20) }},
		{"the length is zero", "model_max_length", func(f *Files) { f.TokenizerConfig = []byte(`{"model_max_length": 0}`) }},
		{"the length is a string", "model_max_length",
			func(f *Files) { f.TokenizerConfig = []byte(`{"model_max_length": "77"}`) }},
		{"the length is absurd", "model_max_length",
			func(f *Files) { f.TokenizerConfig = []byte(`{"model_max_length": 1e30}`) }},
		{"the config is not an object", "tokenizer_config.json", func(f *Files) { f.TokenizerConfig = []byte(`[1]`) }},
	} {
		f := good()
		c.change(&f)
		if _, err := Read(f); !errors.As(err, new(*badmodel.Error)) || !strings.Contains(fmt.Sprint(err), c.want) {
			t.Errorf("%s: %v", c.name, err)
		}
	}
}
