package textenc

import (
	"compress/gzip"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/euryale-ml/euryale/internal/bounded"
	"github.com/euryale-ml/euryale/internal/hftokenizer"
)

// published is the vocabulary of CLIP, rebuilt from its merges: the bytes, the bytes as ends of words, what each
// merge makes, the special tokens.
func published(t testing.TB) TokenizerFiles {
	t.Helper()
	f, err := rebuilt()
	if err != nil {
		t.Fatal(err)
	}
	return f
}

var rebuilt = sync.OnceValues(func() (TokenizerFiles, error) {
	f, err := os.Open("testdata/merges.txt.gz")
	if err != nil {
		return TokenizerFiles{}, err
	}
	defer f.Close()
	z, err := gzip.NewReader(f)
	if err != nil {
		return TokenizerFiles{}, err
	}
	merges, err := io.ReadAll(z)
	if err != nil {
		return TokenizerFiles{}, err
	}
	vocab := map[string]int{}
	add := func(s string) { vocab[s] = len(vocab) }
	symbols := slices.Clone(byteSymbols[:])
	slices.SortFunc(symbols, strings.Compare)
	for _, end := range []string{"", hftokenizer.WordEnd} {
		for _, s := range symbols {
			add(s + end)
		}
	}
	for line := range strings.Lines(string(merges)) {
		if !strings.HasPrefix(line, "#version") {
			add(strings.ReplaceAll(strings.TrimSpace(line), " ", ""))
		}
	}
	add("<|startoftext|>")
	add("<|endoftext|>")
	raw, err := json.Marshal(vocab)
	config := []byte(`{"model_max_length": 77}`)
	return TokenizerFiles{Dir: "tokenizer", Vocab: raw, Merges: merges, TokenizerConfig: config}, err
})

// The ids are those of transformers for prompts of every kind.
func TestIDsAreThoseOfTransformers(t *testing.T) {
	tok, err := NewTokenizer(published(t))
	if err != nil {
		t.Fatal(err)
	}
	raw, err := os.ReadFile("testdata/tokens.json")
	if err != nil {
		t.Fatal(err)
	}
	var cases [][2]json.RawMessage
	if err := json.Unmarshal(raw, &cases); err != nil {
		t.Fatal(err)
	}
	if len(cases) < 500 {
		t.Fatalf("%d prompts, want 500", len(cases))
	}
	wrong := 0
	for _, c := range cases {
		var prompt string
		var want []int32
		if err := errors.Join(json.Unmarshal(c[0], &prompt), json.Unmarshal(c[1], &want)); err != nil {
			t.Fatal(err)
		}
		enc, err := tok.Encode(prompt)
		if err != nil {
			t.Errorf("%q: %v", prompt, err)
			continue
		}
		full := want
		want = append(append([]int32{49406}, want[:min(len(want), 75)]...), 49407)
		for len(want) < 77 {
			want = append(want, 49407)
		}
		if !slices.Equal(enc.IDs, want) {
			if wrong++; wrong < 20 {
				t.Errorf("%q:\n got %v\nwant %v", prompt, enc.IDs, want)
			}
		}
		if cut := len(full) > 75; cut != (enc.Truncated != "") && !strings.Contains(prompt, "<|") {
			t.Errorf("%q: truncated %q", prompt, enc.Truncated)
		}
	}
	t.Logf("%d prompts, %d wrong", len(cases), wrong)
}

func TestTruncatedTextIsNamed(t *testing.T) {
	tok, err := NewTokenizer(published(t))
	if err != nil {
		t.Fatal(err)
	}
	enc, err := tok.Encode(strings.Repeat("word ", 75) + "and the end, café")
	if err != nil || enc.Truncated != "and the end , café" {
		t.Errorf("truncated %q, %v", enc.Truncated, err)
	}
}

func TestPromptsThatAreRefused(t *testing.T) {
	tok, err := NewTokenizer(published(t))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := tok.Encode("ab\xffc"); err == nil || !strings.Contains(err.Error(), "byte 2") {
		t.Errorf("invalid UTF-8: %v", err)
	}
	if _, err := tok.Encode(strings.Repeat("a", (64<<10)+1)); err == nil {
		t.Error("a prompt that is too long is taken")
	}
	if _, err := tok.Encode("\ufffd is a character"); err != nil {
		t.Errorf("the replacement character: %v", err)
	}
}

// The limits of TokenizerFiles are those that count.
func TestTokenizerLimits(t *testing.T) {
	f := published(t)
	f.MaxTokens, f.MaxPrompt = 49408, 3
	tok, err := NewTokenizer(f)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := tok.Encode("cat"); err != nil {
		t.Error(err)
	}
	if _, err := tok.Encode("cats"); err == nil || !strings.Contains(err.Error(), "at most 3, the limit Prompt") {
		t.Errorf("a prompt of 4 bytes: %v", err)
	}
	f.MaxTokens--
	if _, err := NewTokenizer(f); err == nil || !strings.Contains(err.Error(), "at most 49407, the limit Tokens") {
		t.Errorf("a vocabulary of 49,408 tokens: %v", err)
	}
}

// A prompt of one long word takes no quadratic time.
func TestLongWordsAreQuick(t *testing.T) {
	tok, err := NewTokenizer(published(t))
	if err != nil {
		t.Fatal(err)
	}
	for _, unit := range []string{"a", "ab", "the", "!", "é", "漢"} {
		start := bounded.CPU()
		if _, err := tok.Encode(strings.Repeat(unit, (64<<10)/len(unit))); err != nil {
			t.Fatal(err)
		}
		if took := bounded.CPU() - start; took > bounded.Limit(2*time.Second) {
			t.Errorf("64 KiB of %q took %v", unit, took)
		}
	}
}

// A token of very many vectors does not make a prompt as long as it likes.
func TestVectorsAreBounded(t *testing.T) {
	f := published(t)
	tokens := map[string]int{"<n>": 50000}
	for i := range 2000 {
		tokens[fmt.Sprintf("<n>_%d", i+1)] = 50001 + i
	}
	f.AddedTokens, _ = json.Marshal(tokens)
	tok, err := NewTokenizer(f)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := tok.Encode("a <n> b"); err != nil {
		t.Error(err)
	}
	if _, err := tok.Encode(strings.Repeat("<n>", 100)); err == nil || !strings.Contains(err.Error(), "the limit Prompt") {
		t.Errorf("a prompt of 200,000 vectors: %v", err)
	}
}
