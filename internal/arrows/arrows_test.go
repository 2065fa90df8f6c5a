// Package arrows tests that imports follow the picture of the architecture in the README.
package arrows

import (
	"go/parser"
	"go/token"
	"io/fs"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

const module = "github.com/euryale-ml/euryale"

// allowed lists what each package may import from this module, beside internal packages. Packages that are
// not named may import anything: they are commands and tools.
var allowed = map[string][]string{
	"graphs":  {"unet", "vae", "textenc", "loader", "layers", "offload"},
	"unet":    {"layers"},
	"vae":     {"layers"},
	"textenc": {"layers"},
	"loader":  {},
	"offload": {},
	"layers":  {},
}

func TestArrows(t *testing.T) {
	root := filepath.Join("..", "..")
	seen := 0
	err := filepath.WalkDir(root, func(file string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() && file != root && (strings.HasPrefix(d.Name(), ".") || d.Name() == "testdata") {
			return filepath.SkipDir
		}
		if d.IsDir() || !strings.HasSuffix(file, ".go") || strings.HasSuffix(file, "_test.go") {
			return nil
		}
		rel, err := filepath.Rel(root, file)
		if err != nil {
			return err
		}
		from := path.Dir(filepath.ToSlash(rel))
		f, err := parser.ParseFile(token.NewFileSet(), file, nil, parser.ImportsOnly)
		if err != nil {
			return err
		}
		for _, i := range f.Imports {
			imported, err := strconv.Unquote(i.Path.Value)
			if err != nil {
				return err
			}
			if to, ours := strings.CutPrefix(imported, module+"/"); ours {
				seen++
				check(t, from, to)
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if seen < 10 {
		t.Fatalf("only %d imports were seen", seen)
	}
}

func check(t *testing.T, from, to string) {
	t.Helper()
	top := func(p string) string { return strings.SplitN(p, "/", 2)[0] }
	inner := strings.HasPrefix(to, "internal/")
	if strings.HasPrefix(from, "internal/") && !inner {
		t.Errorf("%s imports %s: internal packages are at the bottom", from, to)
	}
	list, known := allowed[top(from)]
	if known && !inner && top(to) != top(from) && !slices.Contains(list, top(to)) {
		t.Errorf("%s imports %s", from, to)
	}
}
