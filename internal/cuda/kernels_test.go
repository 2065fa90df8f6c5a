package cuda

import (
	"crypto/sha256"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// The PTX that is committed is what kernels/build.py makes of the sources beside it.
func TestPTXMatchesItsSource(t *testing.T) {
	script, err := os.ReadFile("kernels/build.py")
	if err != nil {
		t.Fatal(err)
	}
	versions := map[string]string{}
	for _, m := range regexp.MustCompile(`(?m)^(NVRTC\w*) = "(.*?)"`).FindAllSubmatch(script, -1) {
		versions[string(m[1])] = string(m[2])
	}
	sources, _ := filepath.Glob("kernels/*.cu")
	examples, _ := filepath.Glob("../../examples/*/*.cu")
	sources = append(sources, examples...)
	if len(sources) == 0 {
		t.Fatal("no kernels")
	}
	for _, source := range sources {
		h := sha256.New()
		headers, _ := filepath.Glob("kernels/*.h")
		slices.Sort(headers)
		for _, file := range append([]string{source}, headers...) {
			text, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			h.Write(text)
		}
		arch, version := "compute_70", versions["NVRTC"]
		if strings.HasSuffix(source, "_tensor.cu") {
			arch = "compute_80"
		}
		if strings.HasSuffix(source, "_hopper.cu") {
			arch, version = "compute_90a", versions["NVRTC_HOPPER"]
		}
		fmt.Fprintf(h, "%s --gpu-architecture=%s --std=c++17 -default-device", version, arch)
		ptx, err := os.ReadFile(strings.TrimSuffix(source, ".cu") + ".ptx")
		if err != nil {
			t.Fatal(err)
		}
		if got, want := string(ptx[:67]), fmt.Sprintf("// %x", h.Sum(nil)); got != want {
			t.Errorf("%s is not of these sources: run kernels/build.py", strings.TrimSuffix(source, ".cu")+".ptx")
		}
	}
}
