//go:build unix

package main

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/euryale-ml/euryale/internal/bounded"
)

// drawing is a run of the command into a folder, how long it takes and what it writes.
func drawing(t *testing.T, dir string, seed int) (start func() (*exec.Cmd, *bytes.Buffer), takes time.Duration, want []byte) {
	t.Helper()
	out := filepath.Join(dir, "out.png")
	start = func() (*exec.Cmd, *bytes.Buffer) {
		return built(t, "generate", "-m", sd1, "-p", "a red circle", "--steps", "3", "-s", fmt.Sprint(seed), "--threads", "1", "-o", out)
	}
	for range 3 {
		cmd, output := start()
		begin := time.Now()
		if err := cmd.Run(); err != nil {
			t.Fatalf("%v\n%s", err, output)
		}
		if took := time.Since(begin); takes == 0 || took < takes {
			takes = took
		}
	}
	want, err := os.ReadFile(out)
	if err != nil {
		t.Fatal(err)
	}
	return start, takes, want
}

// A command that is killed at any time leaves its picture whole, or the one that was there before, or none, and
// nothing else; the next one draws as if nothing had been. Where a picture is replaced there is one moment, between two
// calls of the system, in which the new one has a name of its own; what a kill leaves there the next run takes away.
func TestKilledRunsLeaveNothing(t *testing.T) {
	dir := t.TempDir()
	out := filepath.Join(dir, "out.png")
	_, _, old := drawing(t, dir, 8)
	start, takes, want := drawing(t, dir, 7)
	rng := rand.New(rand.NewPCG(1, 2))
	killed, before := 0, 0
	for i := range bounded.Some(100, 8) {
		os.Remove(out)
		if i%2 == 1 {
			if err := os.WriteFile(out, old, 0o666); err != nil {
				t.Fatal(err)
			}
		}
		cmd, _ := start()
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		if i%4 < 2 {
			time.Sleep(time.Duration(rng.Float64() * 1.1 * float64(takes)))
		} else {
			time.Sleep(time.Duration((0.7 + 0.4*rng.Float64()) * float64(takes))) // when it writes
		}
		cmd.Process.Kill()
		cmd.Wait()
		if cmd.ProcessState.ExitCode() == -1 {
			killed++
		}
		got, err := os.ReadFile(out)
		switch {
		case os.IsNotExist(err) && i%2 == 0, err == nil && i%2 == 1 && bytes.Equal(got, old):
			before++
		case err != nil || !bytes.Equal(got, want):
			t.Fatalf("kill %d: the picture is not whole: %d bytes, %v", i, len(got), err)
		}
		if left, _ := filepath.Glob(filepath.Join(dir, ".euryale-*")); len(left) == 1 && i%2 == 1 {
			t.Logf("kill %d came while the picture was replaced", i)
		} else if err == nil {
			noFiles(t, dir, "out.png")
		} else {
			noFiles(t, dir)
		}
		cmd, output := start()
		if err := cmd.Run(); err != nil {
			t.Fatalf("the run after kill %d: %v\n%s", i, err, output)
		}
		if got, err := os.ReadFile(out); err != nil || !bytes.Equal(got, want) {
			t.Fatalf("the run after kill %d draws another picture; %v", i, err)
		}
		noFiles(t, dir, "out.png")
	}
	t.Logf("%d killed while they ran, %d before their picture was there", killed, before)
	if killed == 0 || before == 0 {
		t.Error("none was killed in time")
	}
}

// Ctrl-C ends the command with its own exit code and without a picture. TestSignals has that it ends a run that would
// take hours.
func TestInterruptedRunsLeaveNothing(t *testing.T) {
	dir := t.TempDir()
	out := filepath.Join(dir, "out.png")
	start, takes, want := drawing(t, dir, 7)
	rng := rand.New(rand.NewPCG(3, 4))
	cancelled := 0
	n := bounded.Some(200, 12)
	for i := 0; cancelled < n; i++ {
		if i == 3*n {
			t.Fatalf("%d of %d were cancelled", cancelled, i)
		}
		os.Remove(out)
		cmd, output := start()
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Duration((0.1 + 0.8*rng.Float64()) * float64(takes)))
		cmd.Process.Signal(syscall.SIGINT)
		cmd.Wait()
		got, err := os.ReadFile(out)
		switch code := cmd.ProcessState.ExitCode(); {
		case code == exitCancelled && os.IsNotExist(err) && strings.HasSuffix(output.String(), "euryale: cancelled\n"):
			cancelled++
			noFiles(t, dir)
		case code == 0 && err == nil && bytes.Equal(got, want): // too late
			noFiles(t, dir, "out.png")
		case code == -1 && os.IsNotExist(err): // before the command was ready for it
			noFiles(t, dir)
		default:
			t.Fatalf("interrupt %d: exit code %d, %d bytes of picture, %v\n%s", i, code, len(got), err, output)
		}
	}
	t.Logf("%d cancelled", cancelled)
	cmd, output := start()
	if err := cmd.Run(); err != nil {
		t.Fatalf("%v\n%s", err, output)
	}
	if got, err := os.ReadFile(out); err != nil || !bytes.Equal(got, want) {
		t.Errorf("the run after them draws another picture; %v", err)
	}
}

// Under a hard limit of address space the command draws, or says that it lacks memory; the Go runtime does not end it.
func TestLimitsOfAddressSpace(t *testing.T) {
	dir := t.TempDir()
	out := filepath.Join(dir, "out.png")
	_, _, want := drawing(t, dir, 7)
	limited := func(mib int, args ...string) (*exec.Cmd, *bytes.Buffer) {
		cmd, output := built(t)
		cmd = exec.Command("sh", append([]string{"-c", `ulimit -v "$0" && exec "$@"`, strconv.Itoa(mib << 10), cmd.Path}, args...)...)
		cmd.Stdout, cmd.Stderr = output, output
		return cmd, output
	}
	if cmd, output := limited(64<<10, "help"); cmd.Run() != nil {
		t.Skipf("no such limits here: %s", output)
	}
	// The least in which this program begins: that is the Go runtime's affair, which takes address space in large pieces
	// at places that differ from run to run, and ends the process before main when it gets none.
	begins := func(mib int) bool {
		for range 8 {
			if cmd, _ := limited(mib, "help"); cmd.Run() != nil {
				return false
			}
		}
		return true
	}
	least, enough := 16, 64<<10
	for enough-least > 1 {
		mid := (least + enough) / 2
		if begins(mid) {
			enough = mid
		} else {
			least = mid
		}
	}
	drawn, refused := 0, 0
	for _, more := range []int{64, 96, 128, 180, 200, 256, 512, 4096} {
		for _, strategy := range []string{"none", "sequential"} {
			os.Remove(out)
			var cmd *exec.Cmd
			var output *bytes.Buffer
			for tries := 0; tries == 0 || tries < 8 && cmd.ProcessState.ExitCode() == 2; tries++ { // ended before main, by the runtime
				cmd, output = limited(enough+more, "generate", "-m", sd1, "-p", "a red circle", "--steps", "3", "-s", "7", "--threads", "1", "--offload", strategy, "-o", out)
				cmd.Run()
			}
			got, err := os.ReadFile(out)
			switch code := cmd.ProcessState.ExitCode(); {
			case code == 0 && err == nil && bytes.Equal(got, want):
				drawn++
			case code == exitMemory && os.IsNotExist(err) && strings.Contains(output.String(), "out of memory: ") && !strings.Contains(output.String(), "goroutine "):
				refused++
			default:
				t.Errorf("%d MiB more than %d: exit code %d, %v\n%.3000s", more, enough, code, err, output)
			}
			os.Remove(out)
			noFiles(t, dir)
		}
	}
	t.Logf("with 64 MiB to 4 GiB more than the %d MiB of an empty program: %d drawn, %d refused", enough, drawn, refused)
	if drawn == 0 || refused == 0 {
		t.Errorf("%d drawn, %d refused: the limits do not bite", drawn, refused)
	}
}
