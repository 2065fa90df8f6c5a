package main

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/euryale-ml/euryale/internal/bounded"
	"github.com/euryale-ml/euryale/internal/hostile"
)

// executable is the command, built once for all tests into a folder that TestMain removes.
var (
	executableDir string
	executable    = sync.OnceValues(func() (string, error) {
		file := filepath.Join(executableDir, "euryale.exe")
		out, err := exec.Command("go", "build", "-ldflags=-s -w", "-o", file, ".").CombinedOutput()
		if err != nil {
			err = fmt.Errorf("%w\n%s", err, out)
		}
		return file, err
	})
)

func TestMain(m *testing.M) {
	var err error
	if executableDir, err = os.MkdirTemp("", "euryale"); err != nil {
		panic(err)
	}
	code := m.Run()
	os.RemoveAll(executableDir)
	os.Exit(code)
}

// built is the built command, about to be started.
func built(t *testing.T, args ...string) (cmd *exec.Cmd, output *bytes.Buffer) {
	t.Helper()
	file, err := executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd, output = exec.Command(file, args...), new(bytes.Buffer)
	cmd.Stdout, cmd.Stderr = output, output
	return cmd, output
}

// noFiles checks that a folder holds nothing, or what is listed.
func noFiles(t *testing.T, dir string, but ...string) {
	t.Helper()
	files, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for i, f := range files {
		if i >= len(but) || f.Name() != but[i] {
			t.Errorf("%s is left in the folder", f.Name())
		}
	}
}

// The command says of every bad folder of the list what is wrong with it and ends with the exit code of a bad model,
// having taken little memory and time, written nothing, and opened nothing outside of the folder.
func TestHostileFoldersThroughTheCommand(t *testing.T) {
	out := t.TempDir()
	args := func(model string) []string {
		return []string{"generate", "-m", model, "-p", "x", "--steps", "1", "-W", "16", "-H", "16", "--threads", "2", "-o", filepath.Join(out, "out.png")}
	}
	known := forgetRSS() == nil && !bounded.Race
	good, output := built(t, args(sd1)...)
	if err := good.Run(); err != nil {
		t.Fatalf("%v\n%s", err, output)
	}
	baseline := rssOf(good.ProcessState)
	os.Remove(filepath.Join(out, "out.png"))
	largest, longest, seen := int64(0), time.Duration(0), map[int]bool{}
	for _, c := range hostile.Cases() {
		if !bounded.Full() && (seen[c.Number()] || c.Number()%3 != 0) {
			continue
		}
		seen[c.Number()] = true
		t.Run(c.Name, func(t *testing.T) {
			model, outside, err := c.Folder(t.TempDir(), sd1)
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
			forgetRSS()
			cmd, output := built(t, args(model)...)
			cmd.Run()
			took := cmd.ProcessState.UserTime() + cmd.ProcessState.SystemTime()
			if code := cmd.ProcessState.ExitCode(); code != exitModel {
				t.Fatalf("exit code %d, want %d\n%.2000s", code, exitModel, output)
			}
			text := output.String()
			for _, want := range c.Want {
				if !strings.Contains(text, want) {
					t.Errorf("no %q in %.500q", want, text)
				}
			}
			if strings.Contains(text, "goroutine ") || strings.ContainsFunc(text, func(r rune) bool { return r < ' ' && r != '\n' }) {
				t.Errorf("the message shows a stack or what is no text: %.500q", text)
			}
			rss := rssOf(cmd.ProcessState)
			if known && rss > baseline+256<<20 || took > bounded.Limit(2*time.Second) {
				t.Errorf("%d MiB, %d more than a good run, and %v of processor time were taken", rss>>20, (rss-baseline)>>20, took)
			}
			largest, longest = max(largest, rss-baseline), max(longest, took)
			if opened != nil {
				if n, err := opened(); n != 0 || err != nil {
					t.Errorf("%d files outside of the folder were opened; %v", n, err)
				}
			}
			noFiles(t, out)
		})
	}
	t.Logf("at most %d MiB more than a good run's %d, and %v", largest>>20, baseline>>20, longest)
}
