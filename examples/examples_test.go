// Package examples tests that every program below it builds, runs and prints what its output.txt says.
package examples

import (
	"bytes"
	"encoding/csv"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"testing"

	"github.com/euryale-ml/euryale/internal/bounded"
)

// output compiles an example and returns what it prints.
func output(t *testing.T, name string) []byte {
	t.Helper()
	program := filepath.Join(t.TempDir(), name)
	if out, err := exec.Command("go", "build", "-ldflags=-s -w", "-o", program, "./"+name).CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	var stderr bytes.Buffer
	c := exec.Command(program)
	c.Stderr = &stderr
	out, err := c.Output()
	if err != nil {
		t.Fatalf("%v\n%s", err, stderr.Bytes())
	}
	return out
}

func TestExamples(t *testing.T) {
	dirs, err := filepath.Glob("*/output.txt")
	if err != nil || len(dirs) < 3 {
		t.Fatalf("%d examples, %v", len(dirs), err)
	}
	for _, file := range dirs {
		name := filepath.Dir(file)
		t.Run(name, func(t *testing.T) {
			want, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			if got := output(t, name); !bytes.Equal(got, want) {
				t.Errorf("it prints\n%s\nwant\n%s", got, want)
			}
		})
	}
}

// The table has both strategies, which keep to their budgets, for every device.
func TestStrategies(t *testing.T) {
	if !bounded.Full() {
		t.Skip("a search of plans for every device takes half a minute; EURYALE_FULL=1 runs it")
	}
	rows, err := csv.NewReader(bytes.NewReader(output(t, "strategies"))).ReadAll()
	if err != nil {
		t.Fatal(err)
	}
	number := func(s string) float64 {
		v, err := strconv.ParseFloat(s, 64)
		if err != nil || !(v > 0) {
			t.Fatalf("%q is no number above 0", s)
		}
		return v
	}
	seen := map[string]int{}
	for _, r := range rows[1:] {
		if peak, budget := number(r[3]), number(r[1]); !(peak <= budget) {
			t.Errorf("%v: the peak is above the budget", r)
		}
		if step, image := number(r[4]), number(r[5]); !(step < 1e3*image) {
			t.Errorf("%v: a step takes longer than an image", r)
		}
		seen[r[0]+" "+r[2]]++
	}
	if len(seen) < 10 {
		t.Errorf("%d pairs of devices and strategies", len(seen))
	}
	for pair, n := range seen {
		if n < 8 {
			t.Errorf("%s has %d budgets", pair, n)
		}
	}
}
