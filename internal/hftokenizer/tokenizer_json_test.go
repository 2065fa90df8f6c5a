package hftokenizer

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/euryale-ml/euryale/internal/badmodel"
)

// serializedGood is the tokenizer of good as transformers 5 writes it.
const serializedGood = `{"version": "1.0", "truncation": null, "padding": null,
	"added_tokens": [{"id": 4, "content": "<|endoftext|>", "single_word": false, "lstrip": false, "rstrip": false,
		"normalized": false, "special": true}],
	"normalizer": {"type": "Sequence", "normalizers": [{"type": "NFC"},
		{"type": "Replace", "pattern": {"Regex": "\\s+"}, "content": " "}, {"type": "Lowercase"}]},
	"pre_tokenizer": {"type": "Sequence", "pretokenizers": [
		{"type": "Split", "pattern": {"Regex": "'s|'t|'re|'ve|'m|'ll|'d|[\\p{L}]+|[\\p{N}]|[^\\s\\p{L}\\p{N}]+"},
			"behavior": "Removed", "invert": true},
		{"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": true}]},
	"post_processor": {"type": "RobertaProcessing", "sep": ["<|endoftext|>", 4], "cls": ["<|startoftext|>", 3],
		"trim_offsets": false, "add_prefix_space": false},
	"model": {"type": "BPE", "dropout": null, "unk_token": "<|endoftext|>", "continuing_subword_prefix": "",
		"end_of_word_suffix": "</w>", "fuse_unk": false, "byte_fallback": false, "ignore_merges": false,
		"vocab": {"a": 0, "b": 1, "ab": 2, "<|startoftext|>": 3, "<|endoftext|>": 4}, "merges": ["a b"]}}`

// A tokenizer.json that is not CLIP's is refused with the field in which it differs.
func TestBadTokenizerJSON(t *testing.T) {
	whole := serializedGood
	load := func(s string) error {
		_, err := Read(Files{Dir: "tokenizer", TokenizerConfig: good().TokenizerConfig, TokenizerJSON: []byte(s)})
		return err
	}
	if err := load(whole); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ name, old, new, want string }{
		{"another model", `"type": "BPE"`, `"type": "Unigram"`, `model.type: "\"Unigram\"", want "\"BPE\""`},
		{"dropout", `"dropout": null`, `"dropout": 0.1`, "model.dropout: 0.1"},
		{"another end of words", `"end_of_word_suffix": "</w>"`, `"end_of_word_suffix": ""`, "model.end_of_word_suffix"},
		{"a prefix of pieces", `"continuing_subword_prefix": ""`, `"continuing_subword_prefix": "##"`,
			"model.continuing_subword_prefix"},
		{"unknown tokens run together", `"fuse_unk": false`, `"fuse_unk": true`, "model.fuse_unk: true"},
		{"bytes of unknown tokens", `"byte_fallback": false`, `"byte_fallback": true`, "model.byte_fallback: true"},
		{"words before merges", `"ignore_merges": false`, `"ignore_merges": true`, "model.ignore_merges: true"},
		{"no unknown token", `"unk_token": "<|endoftext|>"`, `"unk_token": null`, "model.unk_token: null"},
		{"no vocabulary", `"vocab"`, `"words"`, "model.vocab: null"},
		{"no merges", `"merges"`, `"pairs"`, "model.merges: null"},
		{"a merge of one part", `["a b"]`, `["ab"]`, "model.merges.0: ab"},
		{"a merge into no token", `["a b"]`, `["b a"]`, "model.merges.0: b a"},
		{"a merge of a number", `["a b"]`, `[["a", 7]]`, "model.merges.0: "},
		{"an id twice", `"b": 1`, `"b": 0`, "tokenizer.json: b: id 0, as a has"},
		{"an id that is a string", `"b": 1`, `"b": "1"`, "model.vocab.b"},
		{"another normal form", `"NFC"`, `"NFKC"`,
			"normalizer.normalizers: other steps, want NFC, then Replace, then Lowercase"},
		{"another replacement", `"content": " "`, `"content": "_"`, "normalizer.normalizers: another replacement"},
		{"another pattern", `[\\p{N}]`, `[\\p{N}]+`, "pre_tokenizer.pretokenizers.pattern"},
		{"another behaviour", `"Removed"`, `"Isolated"`, "pre_tokenizer.pretokenizers.behavior"},
		{"the pattern inverted", `"invert": true`, `"invert": false`, "pre_tokenizer.pretokenizers.invert: false, want true"},
		{"a space before the text", `"add_prefix_space": false`, `"add_prefix_space": true`,
			"add_prefix_space: true, want false"},
		{"another end of the text", `"RobertaProcessing"`, `"TemplateProcessing"`, "post_processor.type"},
		{"an end of no id", `["<|endoftext|>", 4]`, `["<|endoftext|>"]`, "post_processor.sep: a list"},
		{"an end of a huge id", `["<|endoftext|>", 4]`, `["<|endoftext|>", 1048576]`, "post_processor.sep: 1048576"},
		{"added tokens are an object", `"added_tokens": [`, `"added_tokens": {}, "x": [`, "added_tokens: an object"},
		{"an added token without its flags", `"single_word": false, `, ``, "added_tokens.single_word: missing"},
		{"an array", `{`, `[{`, "tokenizer.json: not a JSON object"},
		{"nested", `"version": "1.0"`, `"version": ` + strings.Repeat("[", 100) + strings.Repeat("]", 100),
			"nested more than 64 deep"},
		{"very many values", `"version": "1.0"`, `"version": [` + strings.Repeat("0,", maxValues) + "0]",
			"more than 2097152 values"},
		{"a pointer of Git LFS", whole, "version https://git-lfs.github.com/spec/v1\n", "tokenizer.json: not a JSON object"},
	} {
		s := strings.Replace(whole, c.old, c.new, 1)
		if s == whole {
			t.Errorf("%s: nothing was replaced", c.name)
		}
		if err := load(s); !errors.As(err, new(*badmodel.Error)) || !strings.Contains(fmt.Sprint(err), c.want) {
			t.Errorf("%s: %v, want %s", c.name, err, c.want)
		}
	}
}

// An id for which the text encoder has no row is refused with what says it.
func TestIDsWithoutRowsAreNamed(t *testing.T) {
	for _, c := range []struct {
		name, want string
		rows       int
		change     func(*Files)
	}{
		{"as many rows as ids", "", 5, func(f *Files) {}},
		{"the vocabulary", "tokenizer/vocab.json: token ids up to 4, want less than the text encoder's vocab_size 4", 4,
			func(f *Files) {}},
		{"a special token", "tokenizer/tokenizer_config.json: pad_token: x with the id 5", 5, func(f *Files) {
			f.TokenizerConfig = []byte(`{"model_max_length": 77, "pad_token": "x"}`)
		}},
		{"one of the map", "tokenizer/special_tokens_map.json: eos_token: x with the id 5", 5, func(f *Files) {
			f.SpecialTokens = []byte(`{"eos_token": "x"}`)
		}},
		{"a token added", "tokenizer/added_tokens.json: <n>: <n> with the id 9", 9, func(f *Files) {
			f.AddedTokens = []byte(`{"<n>": 9}`)
		}},
		{"a row for it", "", 10, func(f *Files) { f.AddedTokens = []byte(`{"<n>": 9}`) }},
		{"tokenizer.json", "tokenizer/tokenizer.json: model.vocab: token ids up to 4", 4, func(f *Files) {
			f.Vocab, f.TokenizerJSON = nil, []byte(serializedGood)
		}},
		{"the end in tokenizer.json", "tokenizer/tokenizer.json: post_processor: the id 800", 500, func(f *Files) {
			f.Class = "CLIPTokenizerFast"
			f.TokenizerJSON = []byte(strings.Replace(serializedGood, `["<|endoftext|>", 4]`, `["<|endoftext|>", 800]`, 1))
		}},
	} {
		f := good()
		c.change(&f)
		tok, err := Read(f)
		if err != nil {
			t.Errorf("%s: %v", c.name, err)
			continue
		}
		err = tok.CheckRows(c.rows)
		if c.want == "" && err != nil || c.want != "" && !strings.Contains(fmt.Sprint(err), c.want) {
			t.Errorf("%s: %v, want %s", c.name, err, c.want)
		}
	}
}
