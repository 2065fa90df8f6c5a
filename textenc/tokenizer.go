package textenc

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/euryale-ml/euryale/internal/badmodel"
	"github.com/euryale-ml/euryale/internal/hftokenizer"
	"github.com/euryale-ml/euryale/internal/stack"
)

// TokenizerFiles are the contents of a tokenizer's folder. A file that is not there is nil.
type TokenizerFiles struct {
	Dir             string // its name in errors
	Class           string // CLIPTokenizer, which "" is too, or CLIPTokenizerFast
	Vocab           []byte // vocab.json
	Merges          []byte // merges.txt
	TokenizerConfig []byte // tokenizer_config.json
	SpecialTokens   []byte // special_tokens_map.json
	AddedTokens     []byte // added_tokens.json
	TokenizerJSON   []byte // tokenizer.json
	MaxTokens       int    // of a vocabulary; 0: 262,144
	MaxPrompt       int    // bytes; 0: 65,536
}

// Tokenizer is CLIP's byte-pair tokenizer. Its ids are those of the classes CLIPTokenizer and CLIPTokenizerFast of
// transformers 4.53, the former where the optional package ftfy, which repairs badly decoded text, is not installed;
// and, for a folder that 4.53 cannot open, those of CLIPTokenizer of transformers 5.24. See Note [Precedence of a
// tokenizer's files] in internal/hftokenizer. It may be used from several goroutines.
type Tokenizer struct {
	hf        *hftokenizer.Tokenizer
	added     addedTokens
	vectors   map[string]string // of tokens of several vectors: all of them
	maxPrompt int
}

// NewTokenizer reads a tokenizer's files.
func NewTokenizer(f TokenizerFiles) (_ *Tokenizer, err error) {
	defer stack.Add(&err)
	hf, err := hftokenizer.Read(hftokenizer.Files{Dir: f.Dir, Class: f.Class, Vocab: f.Vocab, Merges: f.Merges,
		TokenizerConfig: f.TokenizerConfig, SpecialTokens: f.SpecialTokens, AddedTokens: f.AddedTokens,
		TokenizerJSON: f.TokenizerJSON, MaxTokens: f.MaxTokens})
	if err != nil {
		return nil, err
	}
	return &Tokenizer{hf, newAddedTokens(hf), vectors(hf.Added), cmp.Or(f.MaxPrompt, 64<<10)}, nil
}

// vectors are the tokens that stand for several, which the folder calls token, token_1, token_2 and so on, and the text
// of all of these.
func vectors(added hftokenizer.Added) map[string]string {
	names := map[string]bool{}
	for _, tok := range added.ByID {
		names[tok.Content] = true
	}
	all := map[string]string{}
	for name := range names {
		every := name
		for i := 1; names[fmt.Sprintf("%s_%d", name, i)]; i++ {
			every += fmt.Sprintf(" %s_%d", name, i)
		}
		if every != name {
			all[name] = every
		}
	}
	return all
}

// Encoding is a prompt as the text encoder takes it.
type Encoding struct {
	IDs       []int32 // MaxLength of them: begin, tokens, end, padding
	Truncated string  // the part of the prompt that did not fit
}

// MaxLength is the number of ids of every encoding.
func (t *Tokenizer) MaxLength() int { return t.hf.Length }

// VocabSize is one more than the largest id, be it of the vocabulary or of an added token.
func (t *Tokenizer) VocabSize() int { return t.hf.Size }

// CheckRows returns an error if an id has no row in an embedding of n rows.
func (t *Tokenizer) CheckRows(n int) error { return stack.With(t.hf.CheckRows(n)) }

// Encode turns a prompt into ids. Text that is not UTF-8 is refused.
func (t *Tokenizer) Encode(prompt string) (_ Encoding, err error) {
	defer stack.Add(&err)
	if len(prompt) > t.maxPrompt {
		return Encoding{}, stack.With(fmt.Errorf("is %d bytes long, want at most %d, the limit Prompt", len(prompt),
			t.maxPrompt))
	}
	for i, r := range prompt {
		if r == utf8.RuneError {
			if _, n := utf8.DecodeRuneInString(prompt[i:]); n == 1 {
				return Encoding{}, stack.With(fmt.Errorf("is not UTF-8 at byte %d", i))
			}
		}
	}
	ids, err := t.all(prompt)
	if err != nil {
		return Encoding{}, err
	}
	enc := Encoding{IDs: make([]int32, 0, t.hf.Length)}
	if room := t.hf.Length - 2; len(ids) > room {
		kept, rest := ids[:room], ids[room:]
		if t.hf.CutLeft {
			rest, kept = ids[:len(ids)-room], ids[len(ids)-room:]
		}
		enc.Truncated, ids = t.decode(rest), kept
	}
	padding := slices.Repeat([]int32{t.hf.Pad}, t.hf.Length-2-len(ids))
	if t.hf.PadLeft {
		enc.IDs = append(enc.IDs, padding...)
	}
	enc.IDs = append(append(append(enc.IDs, t.hf.Begin), ids...), t.hf.End)
	if !t.hf.PadLeft {
		enc.IDs = append(enc.IDs, padding...)
	}
	return enc, nil
}

// all are the ids of a whole prompt, as diffusers has them: where a token stands for several vectors, a prompt names
// the first and gets all.
func (t *Tokenizer) all(prompt string) ([]int32, error) {
	list, err := t.tokens(prompt)
	if err != nil {
		return nil, err
	}
	if len(t.vectors) > 0 {
		seen, whole := map[string]bool{}, prompt
		for _, tok := range list {
			every, ok := t.vectors[tok.text]
			if !ok || seen[tok.text] {
				continue
			}
			seen[tok.text] = true
			if n := len(whole) + strings.Count(whole, tok.text)*(len(every)-len(tok.text)); n > t.maxPrompt {
				return nil, stack.With(fmt.Errorf("is %d bytes long with every vector of %s, want at most %d, the limit Prompt", n,
					badmodel.Quote(tok.text), t.maxPrompt))
			}
			whole = strings.ReplaceAll(whole, tok.text, every)
		}
		if list, err = t.tokens(whole); err != nil {
			return nil, err
		}
	}
	ids := make([]int32, len(list))
	for i, tok := range list {
		ids[i] = tok.id
	}
	return ids, nil
}

// token is one of a prompt.
type token struct {
	text string
	id   int32
}

// tokens splits at added tokens and turns what is between them into ids.
func (t *Tokenizer) tokens(s string) (list []token, err error) {
	for _, seg := range t.added.segments(s) {
		if seg.token {
			list = append(list, token{seg.text, seg.id})
			continue
		}
		for _, word := range t.hf.Rules.Words(seg.text) {
			for _, piece := range t.pieces(word) {
				id, ok := t.hf.ID(piece)
				if !ok {
					return nil, stack.With(fmt.Errorf("holds %s, for which the vocabulary has no token, nor has it the unk_token",
						badmodel.Quote(word)))
				}
				list = append(list, token{piece, id})
			}
		}
	}
	return list, nil
}
