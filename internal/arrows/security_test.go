package arrows

import (
	"os"
	"os/exec"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// Every test that SECURITY.md names exists, in this build or another.
func TestSecurityNamesTests(t *testing.T) {
	raw, err := os.ReadFile("../../SECURITY.md")
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("go", "list", "-f", "{{$d := .Dir}}{{range .TestGoFiles}}{{$d}}/{{.}}\n{{end}}{{range .XTestGoFiles}}{{$d}}/{{.}}\n{{end}}"+
		"{{range .IgnoredGoFiles}}{{$d}}/{{.}}\n{{end}}", "./...")
	cmd.Dir = "../.."
	files, err := cmd.Output()
	if err != nil {
		t.Fatal("go list:", err)
	}
	have := map[string]bool{}
	for file := range strings.FieldsSeq(string(files)) {
		source, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range regexp.MustCompile(`(?m)^func ((?:Test|Fuzz)\w+)\(`).FindAllSubmatch(source, -1) {
			have[string(m[1])] = true
		}
	}
	names := regexp.MustCompile("`((?:Test|Fuzz)\\w+)`").FindAllStringSubmatch(string(raw), -1)
	if len(names) < 20 {
		t.Fatalf("SECURITY.md names %d tests", len(names))
	}
	for _, n := range names {
		if !have[n[1]] {
			t.Errorf("SECURITY.md names %s, which does not exist", n[1])
		}
	}
	for name := range have {
		if strings.HasPrefix(name, "Fuzz") && !slices.ContainsFunc(names, func(n []string) bool { return n[1] == name }) {
			t.Errorf("SECURITY.md does not name %s", name)
		}
	}
}
