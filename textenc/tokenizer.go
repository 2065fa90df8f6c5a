package textenc

import (
	"cmp"
	"encoding/json"
	"fmt"
	"path"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/euryale-ml/euryale/internal/badmodel"
	"github.com/euryale-ml/euryale/internal/strictjson"
	"golang.org/x/text/cases"
	"golang.org/x/text/language"
	"golang.org/x/text/unicode/norm"
)

// TokenizerFiles are the contents of a tokenizer's folder.
type TokenizerFiles struct {
	Dir             string // its name in errors
	Vocab           []byte // vocab.json
	Merges          []byte // merges.txt
	TokenizerConfig []byte // tokenizer_config.json
	SpecialTokens   []byte // special_tokens_map.json; may be nil
	MaxTokens       int    // in Vocab; 0: 262,144
	MaxPrompt       int    // bytes; 0: 65,536
}

// Tokenizer is CLIP's byte-pair tokenizer. Its ids are those of transformers' CLIPTokenizer where the optional
// package ftfy, which repairs badly decoded text, is not installed. It may be used from several goroutines.
type Tokenizer struct {
	ids           map[string]int32
	text          map[int32]string
	ranks         map[[2]string]int
	bos, eos, pad int32
	max           int
	size          int
	maxPrompt     int
	specials      []special
}

// special is a token that stands for itself in a prompt.
type special struct {
	text string
	id   int32
}

// Encoding is a prompt as the text encoder takes it.
type Encoding struct {
	IDs       []int32 // MaxLength of them: begin, tokens, end, padding
	Truncated string  // the end of the prompt that did not fit
}

const (
	maxVocab = 1 << 20
	// maxMerges is what transformers' CLIPTokenizer reads of merges.txt.
	maxMerges = 49152 - 256 - 2
)

// NewTokenizer reads a tokenizer's files.
func NewTokenizer(f TokenizerFiles) (*Tokenizer, error) {
	t := &Tokenizer{maxPrompt: cmp.Or(f.MaxPrompt, 64<<10)}
	if err := t.readVocab(path.Join(f.Dir, "vocab.json"), f.Vocab, cmp.Or(f.MaxTokens, 1<<18)); err != nil {
		return nil, err
	}
	if err := t.readMerges(path.Join(f.Dir, "merges.txt"), f.Merges); err != nil {
		return nil, err
	}
	return t, t.readConfig(f)
}

func (t *Tokenizer) readVocab(file string, raw []byte, most int) error {
	n, _ := strictjson.Extent(raw)
	if n > most {
		return &badmodel.Error{File: file, Got: fmt.Sprintf("%d tokens", n), Want: fmt.Sprintf("at most %d, the limit Tokens", most)}
	}
	if err := json.Unmarshal(raw, &t.ids); err != nil || len(t.ids) == 0 {
		return &badmodel.Error{File: file, Got: "not an object of tokens and ids", Err: err}
	}
	if len(t.ids) != n {
		return &badmodel.Error{File: file, Got: fmt.Sprintf("%d tokens, %d of them different", n, len(t.ids)), Want: "each once"}
	}
	t.text = make(map[int32]string, len(t.ids))
	for token, id := range t.ids {
		if id < 0 || id >= maxVocab {
			return &badmodel.Error{File: file, Field: badmodel.Quote(token), Got: fmt.Sprint(id), Want: fmt.Sprintf("an id from 0 to %d", maxVocab-1)}
		}
		if other, twice := t.text[id]; twice {
			return &badmodel.Error{File: file, Field: badmodel.Quote(max(token, other)), Got: fmt.Sprintf("id %d, as %s has", id, badmodel.Quote(min(token, other)))}
		}
		t.text[id] = token
		t.size = max(t.size, int(id)+1)
	}
	return nil
}

func (t *Tokenizer) readMerges(file string, raw []byte) error {
	t.ranks = map[[2]string]int{}
	line := 0
	for text := range strings.Lines(string(raw)) {
		line++
		text = strings.TrimRight(text, "\r\n")
		if text == "" || line == 1 && strings.HasPrefix(text, "#version") {
			continue
		}
		if len(t.ranks) == maxMerges {
			break
		}
		a, b, ok := strings.Cut(text, " ")
		if _, known := t.ids[a+b]; !ok || a == "" || b == "" || strings.Contains(b, " ") || !known {
			return &badmodel.Error{File: file, Field: fmt.Sprintf("line %d", line), Got: badmodel.Quote(text), Want: "two parts of a token in vocab.json"}
		}
		if _, twice := t.ranks[[2]string{a, b}]; !twice {
			t.ranks[[2]string{a, b}] = len(t.ranks)
		}
	}
	return nil
}

// readConfig finds the special tokens. A token is a string or an object with its content.
func (t *Tokenizer) readConfig(f TokenizerFiles) error {
	file := path.Join(f.Dir, "tokenizer_config.json")
	var config, specials map[string]json.RawMessage
	if err := json.Unmarshal(f.TokenizerConfig, &config); err != nil {
		return &badmodel.Error{File: file, Got: "not a JSON object", Err: err}
	}
	if len(f.SpecialTokens) > 0 {
		if err := json.Unmarshal(f.SpecialTokens, &specials); err != nil {
			return &badmodel.Error{File: path.Join(f.Dir, "special_tokens_map.json"), Got: "not a JSON object", Err: err}
		}
	}
	t.max = 77
	if raw, ok := config["model_max_length"]; ok {
		if err := json.Unmarshal(raw, &t.max); err != nil || t.max < 3 || t.max > 1<<14 {
			return &badmodel.Error{File: file, Field: "model_max_length", Got: badmodel.Quote(string(raw)), Want: fmt.Sprintf("3 to %d", 1<<14)}
		}
	}
	token := func(field, def string) (int32, error) {
		text := def
		for _, m := range []map[string]json.RawMessage{config, specials} {
			var object struct{ Content string }
			if json.Unmarshal(m[field], &text) == nil && text != "" {
				break
			}
			if text = def; json.Unmarshal(m[field], &object) == nil && object.Content != "" {
				text = object.Content
				break
			}
		}
		id, ok := t.ids[text]
		if !ok {
			return 0, &badmodel.Error{File: file, Field: field, Got: badmodel.Quote(text), Want: "a token in vocab.json"}
		}
		return id, nil
	}
	var err error
	if t.bos, err = token("bos_token", "<|startoftext|>"); err != nil {
		return err
	}
	if t.eos, err = token("eos_token", "<|endoftext|>"); err != nil {
		return err
	}
	if t.pad, err = token("pad_token", "<|endoftext|>"); err != nil {
		return err
	}
	t.specials = []special{{t.text[t.bos], t.bos}, {t.text[t.eos], t.eos}}
	return nil
}

// MaxLength is the number of ids of every encoding.
func (t *Tokenizer) MaxLength() int { return t.max }

// VocabSize is one more than the largest id.
func (t *Tokenizer) VocabSize() int { return t.size }

// Encode turns a prompt into ids. Text that is not UTF-8 is refused.
func (t *Tokenizer) Encode(prompt string) (Encoding, error) {
	if len(prompt) > t.maxPrompt {
		return Encoding{}, fmt.Errorf("is %d bytes long, want at most %d, the limit Prompt", len(prompt), t.maxPrompt)
	}
	for i, r := range prompt {
		if r == utf8.RuneError {
			if _, n := utf8.DecodeRuneInString(prompt[i:]); n == 1 {
				return Encoding{}, fmt.Errorf("is not UTF-8 at byte %d", i)
			}
		}
	}
	ids := t.tokens(prompt)
	enc := Encoding{IDs: make([]int32, 0, t.max)}
	if room := t.max - 2; len(ids) > room {
		enc.Truncated = t.decode(ids[room:])
		ids = ids[:room]
	}
	enc.IDs = append(append(append(enc.IDs, t.bos), ids...), t.eos)
	for len(enc.IDs) < t.max {
		enc.IDs = append(enc.IDs, t.pad)
	}
	return enc, nil
}

// tokens splits at special tokens and turns what is between them into ids.
func (t *Tokenizer) tokens(s string) (ids []int32) {
	for s != "" {
		at, found := len(s), special{}
		for _, sp := range t.specials {
			if i := strings.Index(s[:at], sp.text); i >= 0 {
				at, found = i, sp
			}
		}
		for _, word := range words(clean(s[:at])) {
			ids = t.appendWord(ids, word)
		}
		if found.text != "" {
			ids = append(ids, found.id)
		}
		s = s[min(len(s), at+len(found.text)):]
	}
	return ids
}

// clean is transformers' BasicTokenizer as CLIPTokenizer sets it up: control characters go, white space
// becomes one space, Chinese characters stand alone, and the text is composed and in lower case.
func clean(s string) string {
	var b strings.Builder
	for _, r := range s {
		switch {
		case r == '\t', r == '\n', r == '\r', unicode.In(r, unicode.Z):
			b.WriteByte(' ')
		case r == 0xfffd, unicode.Is(unicode.C, r):
		case !unicode.In(r, assigned...):
			// Python counts code points without a character among the control characters.
		case ideograph(r):
			b.WriteByte(' ')
			b.WriteRune(r)
			b.WriteByte(' ')
		default:
			b.WriteRune(r)
		}
	}
	fields := strings.Fields(norm.NFC.String(b.String()))
	lower := cases.Lower(language.Und)
	for i, f := range fields {
		fields[i] = lower.String(f)
	}
	return strings.Join(fields, " ")
}

var assigned = []*unicode.RangeTable{unicode.L, unicode.M, unicode.N, unicode.P, unicode.S}

// ideograph reports whether transformers puts spaces around a character: the blocks of CJK ideographs.
func ideograph(r rune) bool {
	for _, b := range [][2]rune{{0x4e00, 0x9fff}, {0x3400, 0x4dbf}, {0x20000, 0x2a6df}, {0x2a700, 0x2b73f}, {0x2b740, 0x2b81f},
		{0x2b820, 0x2ceaf}, {0xf900, 0xfaff}, {0x2f800, 0x2fa1f}} {
		if b[0] <= r && r <= b[1] {
			return true
		}
	}
	return false
}

// words splits text as CLIP's pattern does: special tokens, English endings, runs of letters, single digits,
// runs of anything else.
func words(s string) (list []string) {
	for s != "" {
		r, n := utf8.DecodeRuneInString(s)
		switch {
		case unicode.IsSpace(r):
			s = s[n:]
			continue
		case prefix(s) > 0:
			n = prefix(s)
		case unicode.IsLetter(r):
			n = run(s, unicode.IsLetter)
		case unicode.IsNumber(r):
		default:
			n = run(s, func(r rune) bool { return !unicode.IsSpace(r) && !unicode.IsLetter(r) && !unicode.IsNumber(r) })
		}
		list = append(list, s[:n])
		s = s[n:]
	}
	return list
}

func prefix(s string) int {
	for _, p := range []string{"<|startoftext|>", "<|endoftext|>", "'s", "'t", "'re", "'ve", "'m", "'ll", "'d"} {
		if strings.HasPrefix(s, p) {
			return len(p)
		}
	}
	return 0
}

func run(s string, in func(rune) bool) int {
	if i := strings.IndexFunc(s, func(r rune) bool { return !in(r) }); i >= 0 {
		return i
	}
	return len(s)
}
