package main

import (
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/euryale-ml/euryale/textenc"
)

// stringCase is a prompt and a tokenizer's folder.
type stringCase struct{ Folder, Class, Text string }

type stringAnswer struct {
	Error string
	IDs   []int32
}

// tokenizers are those opened so far, by folder and class.
type tokenizers map[stringCase]*textenc.Tokenizer

func (t tokenizers) answer(line []byte) (any, error) {
	var c stringCase
	if err := json.Unmarshal(line, &c); err != nil {
		return nil, err
	}
	tok, err := t.open(c)
	if err != nil {
		return stringAnswer{Error: err.Error()}, nil
	}
	enc, err := tok.Encode(c.Text)
	if err != nil {
		return stringAnswer{Error: err.Error()}, nil
	}
	return stringAnswer{IDs: enc.IDs}, nil
}

func (t tokenizers) open(c stringCase) (*textenc.Tokenizer, error) {
	c.Text = ""
	if tok, ok := t[c]; ok {
		return tok, nil
	}
	f := textenc.TokenizerFiles{Dir: filepath.Base(c.Folder), Class: c.Class}
	for name, into := range map[string]*[]byte{
		"vocab.json": &f.Vocab, "merges.txt": &f.Merges, "tokenizer.json": &f.TokenizerJSON, "added_tokens.json": &f.AddedTokens,
		"tokenizer_config.json": &f.TokenizerConfig, "special_tokens_map.json": &f.SpecialTokens,
	} {
		raw, err := os.ReadFile(filepath.Join(c.Folder, name))
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, err
		}
		*into = raw
	}
	tok, err := textenc.NewTokenizer(f)
	if err == nil {
		t[c] = tok
	}
	return tok, err
}
