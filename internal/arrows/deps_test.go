package arrows

import (
	"os/exec"
	"slices"
	"strings"
	"testing"
)

// dependencies are the modules a default build is made of. A new one is a decision: it is code that runs with
// the rights of every program that imports this module.
var dependencies = []string{
	module,
	"github.com/chewxy/hm",  // types of ops
	"github.com/pkg/errors", // stacks of errors
	"golang.org/x/sys",      // processor features
	"golang.org/x/text",     // Unicode composition and case
	"gorgonia.org/gorgonia",
	"gorgonia.org/tensor",
	// What Gorgonia and tensor bring with them.
	"github.com/apache/arrow/go/arrow",
	"github.com/awalterschulze/gographviz",
	"github.com/chewxy/math32",
	"github.com/gogo/protobuf",
	"github.com/golang/protobuf",
	"github.com/google/flatbuffers",
	"github.com/leesper/go_rng",
	"github.com/xtgo/set",
	"go4.org/unsafe/assume-no-moving-gc",
	"golang.org/x/xerrors",
	"gonum.org/v1/gonum",
	"google.golang.org/protobuf",
	"gorgonia.org/dawson",
	"gorgonia.org/vecf32",
	"gorgonia.org/vecf64",
}

// The default build is made of these modules and no others, and none of them needs a C compiler.
func TestDependencies(t *testing.T) {
	cmd := exec.Command("go", "list", "-deps", "-f", "{{with .Module}}{{.Path}}{{end}} {{.ImportPath}} {{len .CgoFiles}}", "./...")
	cmd.Dir = "../.."
	var notes strings.Builder
	cmd.Stderr = &notes
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("go list: %v\n%s", err, &notes)
	}
	seen := map[string]bool{}
	for line := range strings.Lines(string(out)) {
		modulePath, rest, _ := strings.Cut(strings.TrimSuffix(line, "\n"), " ")
		pkg, cgo, _ := strings.Cut(rest, " ")
		if modulePath == "" { // the standard library
			continue
		}
		if !slices.Contains(dependencies, modulePath) && !seen[modulePath] {
			t.Errorf("%s is part of the build, by its package %s: use something else or add it to the list", modulePath, pkg)
		}
		if cgo != "0" {
			t.Errorf("%s has files in C", pkg)
		}
		seen[modulePath] = true
	}
	for _, d := range dependencies {
		if !seen[d] {
			t.Errorf("%s is no longer part of the build: remove it from the list", d)
		}
	}
}
