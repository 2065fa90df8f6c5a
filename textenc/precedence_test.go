package textenc

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/euryale-ml/euryale/internal/badmodel"
)

// refused are the folders that the references refuse, or fail on with the first prompt, and a part of what is said
// here. A folder that is not in this list must give the reference's ids.
var refused = map[string]string{
	"no config":          "tokenizer_config.json: model_max_length: missing",
	"no length":          "tokenizer_config.json: model_max_length: missing",
	"the length is null": "tokenizer_config.json: model_max_length: null",
	"the length that transformers writes for none":       "tokenizer_config.json: model_max_length: 1000000000000000019884624838656",
	"the length is a float":                              "tokenizer_config.json: model_max_length: 10.0",
	"null under the name and a number under the old one": "tokenizer_config.json: model_max_length: null",
	"alone, no length":                                   "tokenizer_config.json: model_max_length: missing",
	"pad is an object of no type in the config":          "tokenizer_config.json: pad_token: an object",
	"pad is null":                           "tokenizer_config.json: pad_token: null",
	"pad is null in the map":                "special_tokens_map.json: pad_token: null",
	"pad is a number":                       "tokenizer_config.json: pad_token: 0",
	"pad is a list":                         "tokenizer_config.json: pad_token: a list",
	"bos is null":                           "tokenizer_config.json: bos_token: null",
	"eos is null in the map":                "special_tokens_map.json: eos_token: null",
	"decoder of a string":                   "tokenizer_config.json: added_tokens_decoder.20:",
	"decoder with a flag that is a number":  "tokenizer_config.json: added_tokens_decoder.20.lstrip: 1, want true or false",
	"additional is a string":                "tokenizer_config.json: additional_special_tokens:",
	"additional of an object of no type":    "tokenizer_config.json: additional_special_tokens: an object",
	"extra tokens in a list":                "tokenizer_config.json: extra_special_tokens: a list",
	"extra tokens are null":                 "tokenizer_config.json: extra_special_tokens: null",
	"tokenizer.json without added tokens":   "tokenizer.json: added_tokens: null",
	"an unknown side":                       "tokenizer_config.json: padding_side:",
	"the side is null":                      "tokenizer_config.json: truncation_side: null",
	"another first name of inputs":          "tokenizer_config.json: model_input_names: a list",
	"init_inputs":                           "tokenizer_config.json: init_inputs: a list",
	"vocab_file":                            "tokenizer_config.json: vocab_file:",
	"fast without merges of the vocabulary": "merges.txt: a bc</w>, want two tokens",
	"fast, bos is null":                     "tokenizer_config.json: bos_token: null",
	"fast of tokenizer.json, pad is null":   "tokenizer_config.json: pad_token: null",
	"fast of tokenizer.json, another model": "tokenizer.json: model.type:",
	"alone, bos is null":                    "tokenizer_config.json: bos_token: null",
	"alone, pad is null":                    "tokenizer_config.json: pad_token: null",
}

// precedence is testdata/precedence.json: small folders, and what the reference that each follows makes of prompts.
type precedence struct {
	Prompts []string
	Cases   []smallFolder
}

type smallFolder struct {
	Name, Class string
	Files       map[string]json.RawMessage // of merges.txt a string
	IDs         [][]int32
	Error       string
}

func readPrecedence(t testing.TB) (table precedence) {
	t.Helper()
	raw, err := os.ReadFile("testdata/precedence.json")
	if err == nil {
		err = json.Unmarshal(raw, &table)
	}
	if err != nil {
		t.Fatal(err)
	}
	return table
}

func (c smallFolder) files() TokenizerFiles {
	f := TokenizerFiles{Dir: "tokenizer", Class: c.Class, Vocab: c.Files["vocab.json"], Merges: c.Files["merges.txt"],
		TokenizerConfig: c.Files["tokenizer_config.json"], SpecialTokens: c.Files["special_tokens_map.json"],
		AddedTokens: c.Files["added_tokens.json"], TokenizerJSON: c.Files["tokenizer.json"]}
	var text string
	if json.Unmarshal(f.Merges, &text) == nil {
		f.Merges = []byte(text)
	}
	return f
}

// What each file and each key of a tokenizer's folder does is what it does in the reference that the folder follows.
func TestPrecedence(t *testing.T) {
	table := readPrecedence(t)
	if len(table.Cases) < 100 {
		t.Fatalf("%d cases", len(table.Cases))
	}
	for _, c := range table.Cases {
		t.Run(c.Name, func(t *testing.T) {
			tok, err := NewTokenizer(c.files())
			if want, ok := refused[c.Name]; ok != (c.Error != "") {
				t.Fatalf("the list of refusals has it: %t; the reference says %q", ok, c.Error)
			} else if ok {
				if !errors.As(err, new(*badmodel.Error)) || !strings.Contains(fmt.Sprint(err), want) {
					t.Errorf("%v, want a refusal with %q; the reference says %q", err, want, c.Error)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			for i, prompt := range table.Prompts {
				enc, err := tok.Encode(prompt)
				if (err != nil) != (c.IDs[i] == nil) || !slices.Equal(enc.IDs, c.IDs[i]) {
					t.Errorf("%q: got %v, %v, want %v", prompt, enc.IDs, err, c.IDs[i])
				}
			}
		})
	}
}
