package loader

import (
	"fmt"
	"strings"
	"testing"
	"testing/fstest"
)

// What "git clone" leaves in place of a large file where git-lfs is not installed is named, whatever the file is.
func TestPointersOfGitLFSAreNamed(t *testing.T) {
	pointer := &fstest.MapFile{Data: []byte("version https://git-lfs.github.com/spec/v1\noid sha256:1\nsize 1\n")}
	fsys := fstest.MapFS{"model_index.json": {Data: []byte(`{"_class_name": "x", "tokenizer": ["transformers", "CLIPTokenizer"]}`)}}
	for _, name := range []string{"vocab.json", "merges.txt", "tokenizer.json", "added_tokens.json", "tokenizer_config.json", "special_tokens_map.json"} {
		fsys["tokenizer/"+name] = pointer
	}
	m, err := OpenFS(fsys)
	if err != nil {
		t.Fatal(err)
	}
	c, err := m.Component("tokenizer")
	if err != nil {
		t.Fatal(err)
	}
	for name := range fsys {
		base, ok := strings.CutPrefix(name, "tokenizer/")
		if !ok {
			continue
		}
		for _, read := range []func(string) ([]byte, error){c.File, c.TokenizerFile} {
			if _, err := read(base); !strings.Contains(fmt.Sprint(err), name+": a Git LFS pointer; fetch the file itself") {
				t.Errorf("%s: %v", name, err)
			}
		}
	}
}
