package pipeline_test

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/euryale-ml/euryale/loader"
	"github.com/euryale-ml/euryale/pipeline"
)

// wholeTokenizer puts the vocabulary and the merges of a folder into a tokenizer.json, as transformers 5 does, and
// leaves their own files out.
func wholeTokenizer(t *testing.T, f fstest.MapFS) {
	t.Helper()
	var vocab map[string]int
	if err := json.Unmarshal(f["tokenizer/vocab.json"].Data, &vocab); err != nil {
		t.Fatal(err)
	}
	merges := [][]string{}
	for line := range strings.Lines(string(f["tokenizer/merges.txt"].Data)) {
		if parts := strings.Fields(line); !strings.HasPrefix(line, "#") {
			merges = append(merges, parts)
		}
	}
	const pattern = `<\|startoftext\|>|<\|endoftext\|>|'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+`
	begin, end := "<|startoftext|>", "<|endoftext|>"
	type object = map[string]any
	added := []object{}
	for _, text := range []string{begin, end} {
		added = append(added, object{"id": vocab[text], "content": text, "single_word": false, "lstrip": false, "rstrip": false,
			"normalized": false, "special": true})
	}
	raw, err := json.Marshal(object{
		"added_tokens": added,
		"normalizer": object{"type": "Sequence", "normalizers": []object{{"type": "NFC"},
			{"type": "Replace", "pattern": object{"Regex": `\s+`}, "content": " "}, {"type": "Lowercase"}}},
		"pre_tokenizer": object{"type": "Sequence", "pretokenizers": []object{
			{"type": "Split", "pattern": object{"Regex": pattern}, "behavior": "Removed", "invert": true},
			{"type": "ByteLevel", "add_prefix_space": false, "use_regex": true}}},
		"post_processor": object{"type": "RobertaProcessing", "cls": []any{begin, vocab[begin]}, "sep": []any{end, vocab[end]}},
		"model":          object{"type": "BPE", "unk_token": end, "end_of_word_suffix": "</w>", "vocab": vocab, "merges": merges}})
	if err != nil {
		t.Fatal(err)
	}
	f["tokenizer/tokenizer.json"] = &fstest.MapFile{Data: raw}
	delete(f, "tokenizer/vocab.json")
	delete(f, "tokenizer/merges.txt")
	delete(f, "tokenizer/special_tokens_map.json")
}

// A folder whose tokenizer is a tokenizer.json makes the picture that it made with the files of older versions, and a
// token added in the folder is another prompt than its letters.
func TestFoldersOfTokenizersOfEachVersion(t *testing.T) {
	want := generate(t, openFS(t, goldenFS(t, "sd1")), pipeline.Request{Prompt: red})
	for _, c := range []struct {
		name   string
		same   bool
		change func(fstest.MapFS)
	}{
		{"no special_tokens_map.json", true, func(f fstest.MapFS) { delete(f, "tokenizer/special_tokens_map.json") }},
		{"tokenizer.json alone", true, func(f fstest.MapFS) { wholeTokenizer(t, f) }},
		{"of class CLIPTokenizerFast", true, func(f fstest.MapFS) {
			set(t, f, "model_index.json", "tokenizer", `["transformers", "CLIPTokenizerFast"]`)
		}},
		{"of that class, tokenizer.json alone", true, func(f fstest.MapFS) {
			wholeTokenizer(t, f)
			set(t, f, "model_index.json", "tokenizer", `["transformers", "CLIPTokenizerFast"]`)
		}},
		{"an added token", false, func(f fstest.MapFS) {
			set(t, f, "tokenizer/tokenizer_config.json", "added_tokens_decoder", `{"0": {"content": "red"}}`)
		}},
	} {
		f := goldenFS(t, "sd1")
		c.change(f)
		if got := generate(t, openFS(t, f), pipeline.Request{Prompt: red}); equal(got, want) != c.same {
			t.Errorf("%s: the same picture: %t", c.name, !c.same)
		}
	}
}

func TestTokenizersThatAreRefused(t *testing.T) {
	for _, c := range []struct {
		name, want string
		change     func(fstest.MapFS)
	}{
		{"of another class", "model_index.json: tokenizer: T5Tokenizer, want CLIPTokenizer or CLIPTokenizerFast", func(f fstest.MapFS) {
			set(t, f, "model_index.json", "tokenizer", `["transformers", "T5Tokenizer"]`)
		}},
		{"no file", "tokenizer/vocab.json: missing, want it, or tokenizer.json", func(f fstest.MapFS) {
			delete(f, "tokenizer/vocab.json")
		}},
		{"an added token without a row", "tokenizer/added_tokens.json: <n>: <n> with the id 70000", func(f fstest.MapFS) {
			f["tokenizer/tokenizer_config.json"].Data = []byte(`{"model_max_length": 8}`)
			f["tokenizer/added_tokens.json"] = &fstest.MapFile{Data: []byte(`{"<n>": 70000}`)}
		}},
		{"a pointer of Git LFS", "tokenizer/merges.txt: a Git LFS pointer", func(f fstest.MapFS) {
			f["tokenizer/merges.txt"].Data = []byte("version https://git-lfs.github.com/spec/v1\noid sha256:1\nsize 1\n")
		}},
	} {
		f := goldenFS(t, "sd1")
		c.change(f)
		m, err := loader.OpenFS(f)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := pipeline.NewTextToImage(m); !strings.Contains(fmt.Sprint(err), c.want) {
			t.Errorf("%s: %v, want %s", c.name, err, c.want)
		}
	}
}
