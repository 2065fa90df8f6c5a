//go:build unix

package main

import (
	"bufio"
	"bytes"
	"io"
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

// A signal ends a run of hours, by whatever of it is in the foreground; where the shell has it ignored it does not.
func TestSignals(t *testing.T) {
	long := []string{"-steps", "1000", "-W", "256", "-H", "256"}
	for _, c := range []struct {
		name   string
		prefix string // what the shell does before it becomes the command
		flags  []string
		signal syscall.Signal
		code   int
		says   string
		leaves string
	}{
		{"Ctrl-C", "", long, syscall.SIGINT, exitCancelled, "euryale: cancelled\n", ""},
		{"a service is stopped", "", long, syscall.SIGTERM, exitCancelled, "euryale: cancelled\n", ""},
		{"killed", "", long, syscall.SIGKILL, -1, "", ""},
		{"Ctrl-C beside a script's background", "trap '' INT; ", []string{"-steps", "20", "-W", "8", "-H", "8"},
			syscall.SIGINT, 0, "seed 1", "a.png=png"},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := t.TempDir()
			cmd, read, said := progressing(t, dir, c.prefix, c.flags...)
			read("step 1/")
			if err := cmd.Process.Signal(c.signal); err != nil {
				t.Fatal(err)
			}
			read("")
			cmd.Wait()
			if code := cmd.ProcessState.ExitCode(); code != c.code || !strings.Contains(said(), c.says) {
				t.Errorf("exit code %d, want %d with %q\n%.500s", code, c.code, c.says, said())
			}
			if got := tree(t, dir); got != c.leaves {
				t.Errorf("it leaves %q, want %q", got, c.leaves)
			}
		})
	}
}

// When a command does not end with the first Ctrl-C, here since its progress waits for a terminal that is held, it does
// with a second one.
func TestSecondInterrupt(t *testing.T) {
	dir := t.TempDir()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	defer w.Close()
	w.SetWriteDeadline(time.Now().Add(100 * time.Millisecond))
	for err == nil {
		_, err = w.Write(make([]byte, 512))
	}
	cmd, _ := built(t, "generate", "-p", "a red circle", "-o", filepath.Join(dir, "a.png"))
	cmd.Stderr = w
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer time.AfterFunc(bounded.Hang, func() { cmd.Process.Kill() }).Stop()
	// Nobody reads the pipe, which is full: from its first line on the command takes no more time.
	for last, same := time.Duration(0), 0; same < 3; time.Sleep(300 * time.Millisecond) {
		now := processorTime(t, cmd.Process.Pid)
		if same++; now != last || now < 40*time.Millisecond {
			same = 0
		}
		last = now
	}
	cmd.Process.Signal(syscall.SIGINT)
	time.Sleep(300 * time.Millisecond)
	if err := cmd.Process.Signal(syscall.SIGINT); err != nil {
		t.Fatalf("the first one has ended it: %v", err)
	}
	cmd.Wait()
	if st := cmd.ProcessState.Sys().(syscall.WaitStatus); !st.Signaled() || st.Signal() != syscall.SIGINT {
		t.Errorf("%v, want an end by the signal", cmd.ProcessState)
	}
	noFiles(t, dir)
}

// progressing starts a picture whose standard error read reads: until there is a text in it, or with "" to its end.
func progressing(t *testing.T, dir, prefix string, flags ...string) (cmd *exec.Cmd, read func(until string),
	said func() string) {
	t.Helper()
	file, err := executable()
	if err != nil {
		t.Fatal(err)
	}
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	args := append([]string{"-c", prefix + `exec "$0" generate -p "a red circle" -s 1 -threads 1 -o a.png "$@"`, file},
		flags...)
	cmd = exec.Command("sh", args...)
	cmd.Dir, cmd.Stderr = dir, w
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	w.Close()
	watch := time.AfterFunc(bounded.Hang, func() { cmd.Process.Kill() })
	t.Cleanup(func() { watch.Stop(); cmd.Process.Kill(); r.Close() })
	var all bytes.Buffer
	in := bufio.NewReader(io.TeeReader(r, &all))
	return cmd, func(until string) {
		for {
			line, err := in.ReadString('\n')
			if err != nil && until != "" {
				t.Fatalf("no %q in %.500q", until, &all)
			}
			if err != nil || until != "" && strings.Contains(line, until) {
				return
			}
		}
	}, all.String
}

// processorTime is what a process has taken so far.
func processorTime(t *testing.T, pid int) time.Duration {
	t.Helper()
	raw, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), "stat"))
	if err != nil {
		t.Skip("the system does not tell what other processes take:", err)
	}
	// The name in parentheses may hold anything; then come the state and, eleventh and twelfth, ticks of 10 ms.
	f := strings.Fields(string(raw[bytes.LastIndexByte(raw, ')')+1:]))
	user, _ := time.ParseDuration(f[11] + "0ms")
	system, _ := time.ParseDuration(f[12] + "0ms")
	return user + system
}
