// Package arrows tests that imports follow the picture of the architecture in the README.
package arrows

import (
	"go/parser"
	"go/token"
	"io/fs"
	"os/exec"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

const module = "github.com/euryale-ml/euryale"

// allowed lists what each package may import from this module, and nothing else of it. Commands, tools and examples,
// which nobody imports, are not named and may import anything that is public, and internal packages.
var allowed = map[string][]string{
	// A pipeline is a runtime's customer: it uses what is public, and nothing beneath that.
	"pipeline": {"graphs", "layers", "loader", "offload", "sched", "textenc", "unet", "vae", "internal/badmodel", "internal/hfconfig",
		"internal/panics", "internal/stack", "internal/torchrand"},
	"profile": {"graphs", "layers", "offload", "internal/stack"},
	"graphs": {"loader", "offload", "internal/cpu", "internal/cuda", "internal/device", "internal/dtype", "internal/engine",
		"internal/hostmem", "internal/panics", "internal/program", "internal/seam",
		"internal/stack"},
	"unet":    {"layers", "internal/hfconfig", "internal/stack"},
	"vae":     {"layers", "internal/hfconfig", "internal/stack"},
	"textenc": {"layers", "internal/badmodel", "internal/hfconfig", "internal/hftokenizer", "internal/stack", "internal/words"},
	"layers": {"internal/badmodel", "internal/cpu", "internal/ops", "internal/ops/elem", "internal/ops/op",
		"internal/stack"},
	"loader": {"internal/badmodel", "internal/dtype", "internal/hostmem", "internal/size", "internal/stack",
		"internal/strictjson"},
	"sched":   {"internal/badmodel", "internal/hfconfig"},
	"offload": {}, // nor anything but the standard library: see TestPlainPackages
	"plot":    {"offload"},

	"internal/golden":    {"internal/torchrand"},
	"internal/modeltest": {"graphs", "layers", "loader", "internal/golden"},

	"internal/ops": {"sched", "internal/cpu", "internal/device", "internal/dtype", "internal/ops/elem", "internal/ops/op",
		"internal/program"},
	"internal/ops/elem": {"internal/cpu", "internal/device", "internal/dtype", "internal/ops/op", "internal/program"},
	"internal/ops/op":   {"internal/cpu", "internal/device", "internal/dtype", "internal/program"},

	"internal/engine":     {"offload", "internal/device"},
	"internal/program":    {"internal/cpu", "internal/device", "internal/dtype", "internal/hostmem", "internal/panics", "internal/size"},
	"internal/outfile":    {"internal/panics"},
	"internal/seam":       {"internal/device"},
	"internal/testkit":    {"graphs", "loader"},
	"internal/cuda":       {"internal/device", "internal/dtype"},
	"internal/device":     {"internal/dtype", "internal/hostmem"},
	"internal/cpu":        {"internal/dtype"},
	"internal/hostmem":    {"internal/size", "internal/sysmem"},
	"internal/hfconfig":   {"internal/badmodel", "internal/strictjson"},
	"internal/strictjson": {"internal/badmodel"},

	"internal/hftokenizer": {"internal/badmodel", "internal/stack", "internal/strictjson", "internal/words"},
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
	list, known := allowed[from]
	switch top := strings.SplitN(from, "/", 2)[0]; {
	case known && !slices.Contains(list, to):
		t.Errorf("%s imports %s", from, to)
	case !known && top != "cmd" && top != "bench" && top != "examples" && !strings.HasPrefix(from, "internal/cuda/"):
		t.Errorf("%s imports %s, and is not in the table", from, to)
	}
}

// Packages for programs that plan, or sample, know no tensors, models or devices: they link the standard library, and
// of this module what reads a config.
func TestPlainPackages(t *testing.T) {
	for name, want := range map[string][]string{
		"offload": {"offload"}, "plot": {"offload", "plot"},
		"sched": {"internal/badmodel", "internal/strictjson", "internal/hfconfig", "sched"},
	} {
		out, err := exec.Command("go", "list", "-deps", "-f", "{{if not .Standard}}{{.ImportPath}}{{end}}", "../../"+name).Output()
		if err != nil {
			t.Fatal("go list:", err)
		}
		got := strings.Fields(strings.ReplaceAll(string(out), module+"/", ""))
		if !slices.Equal(got, want) {
			t.Errorf("%s links %v, want %v", name, got, want)
		}
	}
}
