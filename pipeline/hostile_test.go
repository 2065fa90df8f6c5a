package pipeline_test

import (
	"errors"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/euryale-ml/euryale/graphs"
	"github.com/euryale-ml/euryale/internal/bounded"
	"github.com/euryale-ml/euryale/internal/golden"
	"github.com/euryale-ml/euryale/internal/hostile"
	"github.com/euryale-ml/euryale/loader"
	"github.com/euryale-ml/euryale/pipeline"
)

// Every bad folder of the list ends with a *loader.Error, or with weights that are no numbers with ErrNonFinite,
// which say where and what; little memory and time are taken, and nothing outside of the folder is opened.
func TestHostileFolders(t *testing.T) {
	seen := map[int]bool{}
	for _, c := range hostile.Cases() {
		if seen[c.Number()] && !bounded.Full() {
			continue
		}
		seen[c.Number()] = true
		t.Run(c.Name, func(t *testing.T) {
			model, outside, err := c.Folder(t.TempDir(), filepath.Join(golden.Dir(), "sd1"))
			if errors.Is(err, errors.ErrUnsupported) {
				t.Skip("cannot be made here:", err)
			}
			if err != nil {
				t.Fatal(err)
			}
			opened, err := hostile.Watch(outside)
			if err != nil && !errors.Is(err, errors.ErrUnsupported) {
				t.Fatal(err)
			}
			bounded.Do(t, 256, 2*time.Second, func() { err = openAndRun(t, model, c.Runs) })
			if opened != nil {
				if n, err := opened(); n != 0 || err != nil {
					t.Errorf("%d files outside of the folder were opened; %v", n, err)
				}
			}
			if ok := errors.Is(err, graphs.ErrNonFinite); ok != c.Runs || !ok && !errors.As(err, new(*loader.Error)) {
				t.Fatalf("error %.500v of type %T", err, err)
			}
			for _, want := range c.Want {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("error %.500q, want %q in it", err.Error(), want)
				}
			}
		})
	}
	for n := 1; n <= 66; n++ {
		if !seen[n] {
			t.Errorf("there is no case %d", n)
		}
	}
}

// openAndRun opens a model, and resolves a request; only runs is it asked for a picture.
func openAndRun(t *testing.T, dir string, runs bool) error {
	m, err := loader.Open(dir)
	if err != nil {
		return err
	}
	defer m.Close()
	p, err := pipeline.NewTextToImage(m, graphs.WithThreads(2))
	if err != nil {
		return err
	}
	defer p.Close()
	if !runs { // what is wrong with a scheduler shows when a request does not name another
		_, err := p.Resolve(small())
		return err
	}
	_, err = p.Generate(t.Context(), small())
	return err
}
