// Package hftokenizer reads the folder of a CLIP tokenizer as transformers does. Several of its versions and classes
// read such folders, each in its own way: see Note [Precedence of a tokenizer's files].
package hftokenizer

import (
	"cmp"
	"fmt"
	"path"

	"github.com/euryale-ml/euryale/internal/badmodel"
	"github.com/euryale-ml/euryale/internal/stack"
	"github.com/euryale-ml/euryale/internal/words"
)

// Files are the contents of a tokenizer's folder. A file that is not there is nil.
type Files struct {
	Dir             string // its name in errors
	Class           string // CLIPTokenizer, which "" is too, or CLIPTokenizerFast
	Vocab           []byte // vocab.json
	Merges          []byte // merges.txt
	TokenizerConfig []byte // tokenizer_config.json
	SpecialTokens   []byte // special_tokens_map.json
	AddedTokens     []byte // added_tokens.json
	TokenizerJSON   []byte // tokenizer.json
	MaxTokens       int    // of a vocabulary; 0: 262,144
}

// Tokenizer is what a folder says.
type Tokenizer struct {
	Rules            words.Rules
	Text             map[int32]string  // of the ids in the vocabulary
	Merges           map[[2]string]int // pairs of symbols and how early each was learnt
	Added            Added
	SpellAdded       bool // added tokens are spelt out: by Python all of them, by tokenizers the special ones
	Begin, End, Pad  int32
	Length           int // ids of an encoding
	Size             int // one more than the largest id, be it of the vocabulary or of an added token
	PadLeft, CutLeft bool

	dir      string
	vocab    map[string]int32
	unknown  int32            // -1: none
	fromJSON bool             // the vocabulary is that of tokenizer.json
	from     map[string]place // what says an added token
}

// WordEnd ends the last token of a word in the vocabulary.
const WordEnd = "</w>"

const maxVocab = 1 << 20

var idRange = fmt.Sprintf("an id from 0 to %d", maxVocab-1)

func tokenLimit(most int) string { return fmt.Sprintf("at most %d, the limit Tokens", most) }

// Read reads a tokenizer's files.
func Read(f Files) (*Tokenizer, error) {
	f.MaxTokens = cmp.Or(f.MaxTokens, 1<<18)
	t := &Tokenizer{dir: f.Dir, Added: newAdded()}
	s, err := readSettings(f, f.reference())
	if err != nil {
		return nil, err
	}
	switch s.ref {
	case python:
		err = t.loadPython(f, s)
	case rust:
		err = t.loadRust(f, s)
	default:
		err = t.loadRust5(f, s)
	}
	if err != nil {
		return nil, err
	}
	t.from = s.from
	for id := range t.Added.ByID {
		t.Size = max(t.Size, int(id)+1)
	}
	t.Size = max(t.Size, int(max(t.Begin, t.End, t.Pad))+1)
	return t, nil
}

// reference is the implementation to follow, see Note [Precedence of a tokenizer's files].
func (f Files) reference() reference {
	switch {
	case f.Class == "CLIPTokenizerFast":
		return rust
	case f.TokenizerJSON != nil && (f.Vocab == nil || f.Merges == nil):
		return rust5
	}
	return python
}

// ID is that of a piece of a word. Python's tokenizer looks among the added tokens first. Both fall back on the
// unknown token.
func (t *Tokenizer) ID(piece string) (int32, bool) {
	if t.Rules.Python {
		if id, ok := t.Added.IDs[piece]; ok {
			return id, true
		}
	}
	if id, ok := t.vocab[piece]; ok {
		return id, true
	}
	return t.unknown, t.unknown >= 0
}

// CheckRows returns an error, which names what says the id, if an id has no row in an embedding of n rows.
func (t *Tokenizer) CheckRows(n int) error {
	if t.Size <= n {
		return nil
	}
	e := &badmodel.Error{File: t.file(vocabFile), Want: fmt.Sprintf("less than the text encoder's vocab_size %d", n)}
	if t.fromJSON {
		e.File, e.Field = t.file(tokenizerFile), "model.vocab"
	}
	if _, ok := t.Text[int32(t.Size-1)]; ok {
		e.Got = fmt.Sprintf("token ids up to %d", t.Size-1)
		return stack.With(e)
	}
	// No token of the vocabulary: one that was added, or one that tokenizer.json puts around each prompt.
	e.File, e.Field, e.Got = t.file(tokenizerFile), "post_processor", fmt.Sprintf("the id %d", t.Size-1)
	if added, ok := t.Added.ByID[int32(t.Size-1)]; ok {
		at := t.from[added.Content]
		e.File, e.Field = at.file, at.field
		e.Got = fmt.Sprintf("%s with the id %d", badmodel.Quote(added.Content), t.Size-1)
	}
	return stack.With(e)
}

func (t *Tokenizer) file(name string) string { return path.Join(t.dir, name) }
