//go:build unix

package main

import (
	"bytes"
	"context"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/euryale-ml/euryale/internal/bounded"
)

// situation is a way in which people run the command, and what is promised of it.
type situation struct {
	name   string
	script string // of a shell in an empty folder; see prelude
	code   int    // of the script's last command
	says   string // part of what standard error gets; "" where that does not matter
	prints string // part of what standard output gets
	// leaves is what lies in the folder afterwards: name=kind, in order. A picture of 8x8 pixels is of kind png, jpeg or
	// webp, a link is an arrow and where it leads, what is older is its text.
	leaves string
	needs  string // a command of the shell without which there is no such situation
	user   bool   // not as root, who may do everything
}

// prelude is what scripts begin with: $E is the command, gen draws as quickly as can be.
const prelude = `set -u
gen() { "$E" generate -p "a red circle on a blue background" -steps 1 -s 1 -W 8 -H 8 -threads 1 "$@"; }
`

var situations = slices.Concat(pathSituations, linkSituations, streamSituations, limitSituations, requestSituations,
	environmentSituations)

var pathSituations = []situation{
	{name: "a picture", script: "gen -o a.png", says: "a.png: seed 1, 1 steps", leaves: "a.png=png"},
	{name: "without -o", script: "gen", leaves: "output.png=png"},
	{name: "over a picture that is there", script: "echo old >a.png; gen -o a.png", leaves: "a.png=png"},
	{name: "JPEG", script: "gen -o a.jpg && gen -o b.jpeg", leaves: "a.jpg=jpeg b.jpeg=jpeg"},
	{name: "WebP, in capitals", script: "gen -o A.WEBP", leaves: "A.WEBP=webp"},
	{name: "no extension is PNG", script: "gen -o picture", leaves: "picture=png"},
	{name: "an unknown extension", script: "gen -o a.gif", code: exitUsage,
		says: "written as .png, .jpg, .jpeg, .webp, not as .gif"},
	{name: "several pictures", script: "gen -o a.png -batch 3", leaves: "a-2.png=png a-3.png=png a.png=png"},
	{name: "an empty name", script: "gen -o ''", code: exitUsage, says: "-o is empty"},
	{name: "a folder that is missing", script: "gen -o no/a.png", code: exitIO,
		says: "cannot write no/a.png: folder no: no such file"},
	{name: "a folder in place of a file", script: "mkdir d; gen -o d", code: exitIO,
		says: "cannot write d: it is a folder", leaves: "d=folder"},
	{name: "a slash at the end", script: "mkdir d; gen -o d/", code: exitIO, says: "cannot write d/: it is a folder",
		leaves: "d=folder"},
	{name: "below a file", script: "echo old >f; gen -o f/a.png", code: exitIO, says: "not a directory", leaves: "f=old"},
	{name: "a name that is too long", script: `gen -o "$(printf %0300d 1).png"`, code: exitIO, says: "file name too long"},
	{name: "spaces, letters, a new line", script: "gen -o 'a b – ü\nc.png'", leaves: "a b – ü\nc.png=png"},
	{name: "a dash at the beginning", script: "gen -o -a.png", leaves: "-a.png=png"},
	{name: "a folder that nobody may write", script: "mkdir d; chmod 555 d; gen -o d/a.png", code: exitIO,
		says: "permission denied", leaves: "d=folder", user: true},
	{name: "a file that nobody may write", script: "echo old >a.png; chmod 444 a.png; gen -o a.png", code: exitIO,
		says: "permission denied", leaves: "a.png=old",
		user: true},
	{name: "a file that may be written in a folder that may not",
		script: "mkdir d; echo old >d/a.png; chmod 555 d; gen -o d/a.png", leaves: "d=folder d/a.png=png",
		user: true},
	{name: "two outputs of one name", script: "gen -o a.png -latents-out ./a.png", code: exitUsage,
		says: "-o a.png and -latents-out ./a.png are one file"},
	{name: "two outputs through a link", script: "ln -s a.png b; gen -o a.png -latents-out b", code: exitUsage,
		says: "are one file", leaves: "b=>a.png"},
	{name: "two outputs of two names of a file", script: "echo old >a.png; ln a.png b; gen -o a.png -latents-out b",
		code: exitUsage, says: "are one file",
		leaves: "a.png=old b=old"},
	{name: "a picture of a batch and the latents", script: "gen -o a.png -batch 2 -latents-out a-2.png", code: exitUsage,
		says: "are one file"},
	{name: "plan and trace of one name", script: "gen -o a.png -offload model -plan-out p -trace p", code: exitUsage,
		says: "are one file"},
	{name: "a trace over the plan that it runs",
		script: "gen -o a.png -offload model -plan-out p -quiet; gen -o a.png -plan-in p -trace p; echo $?; rm p",
		says:   "are one file",
		prints: "1", leaves: "a.png=png"},
	{name: "two runs with one output", script: "gen -o a.png & gen -o a.png; wait", leaves: "a.png=png"},
}

var linkSituations = []situation{
	{name: "a link", script: "echo old >a.png; ln -s a.png b.png; gen -o b.png", leaves: "a.png=png b.png=>a.png"},
	{name: "a link into another folder", script: "mkdir d; echo old >d/a.png; ln -s d/a.png b.png; gen -o b.png",
		leaves: "b.png=>d/a.png d=folder d/a.png=png"},
	{name: "a link to nothing yet", script: "ln -s a.png b.png; gen -o b.png", leaves: "a.png=png b.png=>a.png"},
	{name: "a link below a missing folder", script: "ln -s no/a.png b.png; gen -o b.png", code: exitIO,
		says: "no such file", leaves: "b.png=>no/a.png"},
	{name: "a link to a folder", script: "mkdir d; ln -s d b.png; gen -o b.png", code: exitIO, says: "it is a folder",
		leaves: "b.png=>d d=folder"},
	{name: "links in a ring", script: "ln -s a.png b.png; ln -s b.png a.png; gen -o b.png", code: exitIO,
		says: "too many links", leaves: "a.png=>b.png b.png=>a.png"},
	{name: "a link whose dots are of the folder it leads to",
		script: "mkdir -p a/b c; ln -s ../a/b c/up; ln -s c/up/../x.png l.png; gen -o l.png",
		leaves: "a=folder a/b=folder a/x.png=png c=folder c/up=>../a/b l.png=>c/up/../x.png"},
	{name: "a link to another disk",
		script: `other=$(mktemp -d /dev/shm/euryale.XXXXXX); ln -s "$other/a.png" b.png; gen -o b.png; ls "$other"; rm -r b.png "$other"`,
		prints: "a.png", needs: "test -w /dev/shm"},
	{name: "a file with two names", script: "echo old >a.png; ln a.png b.png; gen -o a.png",
		leaves: "a.png=png b.png=old"},
	{name: "a folder that is a link", script: "mkdir d; ln -s d l; gen -o l/a.png", leaves: "d=folder d/a.png=png l=>d"},
	{name: "a new file has what the umask leaves",
		script: "umask 000; gen -o a.png; umask 027; gen -o b.png; umask 077; gen -o c.png; ls -l | cut -c1-10",
		prints: "-rw-rw-rw-\n-rw-r-----\n-rw-------\n", leaves: "a.png=png b.png=png c.png=png"},
	{name: "a file that is there keeps its mode",
		script: "umask 022; echo old >a.png; chmod 604 a.png; gen -o a.png; ls -l | cut -c1-10",
		prints: "-rw----r--\n", leaves: "a.png=png"},
}

var streamSituations = []situation{
	{name: "standard output", script: "gen -o - >a.png", leaves: "a.png=png"},
	{name: "/dev/stdout into a file", script: "gen -o /dev/stdout >a.png; test -h /dev/stdout && echo a link",
		prints: "a link", leaves: "a.png=png",
		needs: "test -h /dev/stdout"},
	{name: "/dev/stdout into a pipe", script: "gen -o /dev/stdout | cat >a.png", leaves: "a.png=png"},
	{name: "/dev/stdout behind what a file holds",
		script: "printf old >a; gen -o /dev/stdout >>a; head -c 7 a | tail -c 4 | tail -c 3; rm a", prints: "PNG"},
	{name: "/proc/self/fd/1", script: "gen -o /proc/self/fd/1 >a.png", leaves: "a.png=png",
		needs: "test -d /proc/self/fd"},
	{name: "a descriptor of the shell", script: "gen -o /dev/fd/3 3>a.png", leaves: "a.png=png"},
	{name: "a link to standard output", script: "ln -s /dev/stdout b.png; gen -o b.png >a.png",
		leaves: "a.png=png b.png=>/dev/stdout"},
	{name: "a descriptor that is open for reading", script: "gen -o /dev/fd/0 </dev/null", code: exitIO,
		says: "open for reading alone"},
	{name: "a descriptor that is not open", script: "gen -o /dev/fd/77", code: exitIO, says: "bad file descriptor"},
	{name: "picture and summary on standard output", script: "gen -o - -json", code: exitUsage,
		says: "-json - and -o - are one file"},
	{name: "picture and latents on standard output", script: "gen -o - -latents-out /dev/stdout | cat",
		says: "are one file"},
	{name: "several pictures on standard output", script: "gen -o - -batch 2", code: exitUsage, says: "takes one picture"},
	{name: "a named pipe", script: "mkfifo p; cat p >a.png & gen -o p; wait", leaves: "a.png=png p=pipe"},
	{name: "a named pipe that nobody reads, ended",
		script: "mkfifo p; \"$E\" generate -p x -steps 1 -W 8 -H 8 -quiet -o p & sleep 0.5; kill $!; wait $!",
		code:   exitCancelled, says: "cancelled", leaves: "p=pipe"},
	{name: "/dev/null", script: "gen -o /dev/null -batch 2 -latents-out /dev/null; ls /dev/null-2", code: anyCode,
		says: "/dev/null, /dev/null: seed 1"},
	{name: "picture and summary to nowhere", script: "gen -json -o /dev/null >/dev/null"},
	{name: "a full disk", script: "gen -o /dev/full", code: exitIO, says: "no space left", needs: "test -c /dev/full"},
	{name: "a table into a full disk", script: `"$E" inspect >/dev/full`, code: exitIO,
		says: "cannot write to standard output: no space left", needs: "test -c /dev/full"},
	{name: "help into a full disk", script: `"$E" help >/dev/full`, code: exitIO, says: "no space left",
		needs: "test -c /dev/full"},
	{name: "a summary into a full disk", script: `gen -json -o a.png >/dev/full`, code: exitIO, says: "no space left",
		leaves: "a.png=png", needs: "test -c /dev/full"},
	{name: "nobody reads standard output", script: `{ sleep 0.2; "$E" inspect; echo "code $?" >&2; } | :`,
		says: "broken pipe\ncode 6"},
	{name: "nobody reads the picture", script: `{ sleep 0.2; gen -o -; echo "code $?" >&2; } | :`,
		says: "cannot write to standard output: broken pipe\ncode 6"},
	{name: "nobody reads the progress", script: `{ sleep 0.2; gen -o a.png 2>&1; echo $? >&3; } 3>&1 1>&2 | :; true`,
		leaves: "a.png=png"},
	{name: "nobody reads standard error",
		script: `{ { sleep 0.2; gen -o a.png; echo "code $?" >&3; } 2>&1 >/dev/null | :; } 3>&1`, prints: "code 0",
		leaves: "a.png=png"},
	{name: "standard error on a full disk", script: "gen -o a.png 2>/dev/full", leaves: "a.png=png",
		needs: "test -c /dev/full"},
	{name: "closed standard error", script: "gen -o a.png 2>&-", leaves: "a.png=png"},
	{name: "closed standard input", script: "gen -o a.png <&-", leaves: "a.png=png"},
	{name: "closed standard output is as /dev/null", script: "gen -json -o a.png >&-", leaves: "a.png=png"},
}

var limitSituations = []situation{
	{name: "too little address space for the Go runtime", script: `ulimit -v 100000; "$E" version`, code: 2,
		says: "fatal error: ", needs: "ulimit -v 100000"},
	{name: "files of at most a block", script: "(trap '' XFSZ; ulimit -f 0; gen -o a.png 2>&1) | cat; ls",
		prints: "cannot write a.png: file too large"},
	{name: "few open files", script: `ulimit -n 3; "$E" inspect -m "$M"`, code: exitIO, says: "too many open files"},
	{name: "no processor time",
		script: `ulimit -t 1; "$E" generate -p x -steps 1000 -W 128 -H 128 -quiet -o a.png; test $? -gt 128 && echo ended`,
		prints: "ended"},
	{name: "one processor draws the same",
		script: "gen -o a.png; GOMAXPROCS=1 gen -o b.png; cmp a.png b.png && echo same", prints: "same",
		leaves: "a.png=png b.png=png"},
	{name: "many threads draw the same", script: "gen -o a.png; gen -threads 64 -o b.png; cmp a.png b.png && echo same",
		prints: "same", leaves: "a.png=png b.png=png"},
	{name: "too many threads", script: "gen -o a.png -threads 10000000", code: exitUsage, says: "want 1 to 1024"},
	{name: "too little device memory", script: "gen -o a.png -max-vram 1KiB", code: exitMemory,
		says: "the smallest that works is"},
	{name: "too little host memory", script: "gen -o a.png -max-ram 1KiB", code: exitMemory, says: "the budget is 1 KiB"},
	{name: "a size without a unit", script: "gen -o a.png -max-vram 2", code: exitUsage,
		says: "want a unit: 2GiB, 2MiB or 2B"},
	{name: "a size that no machine has", script: "gen -o a.png -max-vram 99999999999GiB", code: exitUsage,
		says: "more than any machine has"},
	{name: "sizes that are none",
		script: "for s in 0GiB -1GiB nanGiB infGiB 0.1B 1e999GiB GiB; do gen -o a.png -max-ram $s; done", code: exitUsage,
		says: "want a size"},
	{name: "too many steps", script: "gen -o a.png -steps 1000000000", code: exitUsage, says: "the limit Steps"},
	{name: "too many pictures", script: "gen -o a.png -batch 1000000000", code: exitUsage, says: "the limit Images"},
	{name: "too many pixels", script: "gen -o a.png -W 1000000000", code: exitUsage, says: "the limit Side"},
	{name: "numbers that overflow", script: "gen -o a.png -H 99999999999999999999", code: exitUsage,
		says: "more than any limit"},
	{name: "numbers that are none",
		script: "gen -o a.png -cfg-scale nan; gen -o a.png -eta inf; gen -o a.png -guidance-rescale 1e999", code: exitUsage,
		says: "want a number"},
	{name: "a group of all layers", script: "gen -o a.png -offload group:999999999999", leaves: "a.png=png"},
	{name: "a group of no layers", script: "gen -o a.png -offload group:-1", code: exitUsage,
		says: "is a positive number"},
}

var requestSituations = []situation{
	{name: "nothing at all", script: `"$E"`, code: exitUsage, says: "usage: euryale <command>"},
	{name: "empty words", script: `"$E" ''`, code: exitUsage, says: `unknown command ""`},
	{name: "help", script: `"$E" help && "$E" -h && "$E" --help && "$E" help generate`,
		prints: "euryale generate [flags]"},
	{name: "help behind a command", script: `"$E" generate -h && "$E" plan --help && "$E" version -help`,
		prints: "-budget-curve"},
	{name: "help behind flags", script: `"$E" generate -p x --steps 3 -h`, prints: "-cfg-scale"},
	{name: "a word too many", script: "gen -o a.png b.png", code: exitUsage,
		says: `generate does not take the argument "b.png"`},
	{name: "one dash or two, with = or without", script: "gen -o=a.png --batch=1 --json=false", leaves: "a.png=png"},
	{name: "a prompt of nothing", script: `gen -o a.png -p ""`, leaves: "a.png=png"},
	{name: "a prompt that begins with a dash", script: `gen -o a.png -p "-h"`, leaves: "a.png=png"},
	{name: "a prompt of 64 KiB", script: `gen -o a.png -p "$(head -c 65536 /dev/zero | tr '\0' a)"`,
		says: "warning: text_encoder takes 32 tokens", leaves: "a.png=png"},
	{name: "a prompt of more", script: `gen -o a.png -p "$(head -c 65537 /dev/zero | tr '\0' a)"`, code: exitUsage,
		says: "the limit Prompt"},
	{name: "a prompt that is no UTF-8", script: `gen -o a.png -p "$(printf 'a\377')"`, code: exitUsage,
		says: "prompt is not UTF-8 at byte 1"},
	{name: "a model that is not there", script: "gen -o a.png -m no", code: exitModel, says: "no: "},
	{name: "a folder that is no model", script: "mkdir d; gen -o a.png -m d", code: exitModel,
		says: "model_index.json: missing", leaves: "d=folder"},
	{name: "a model that nobody may read",
		script: `cp -r "$M" d; chmod 000 d/unet; gen -o a.png -m d; code=$?; chmod 755 d/unet; rm -r d; exit $code`,
		code:   exitModel,
		says:   "permission denied", user: true},
	{name: "a plan that is not there", script: "gen -o a.png -plan-in no", code: exitIO, says: "no such file"},
	{name: "a plan that is none", script: "echo old >p; gen -o a.png -plan-in p", code: exitUsage, says: "p: ",
		leaves: "p=old"},
	{name: "a relative path of a model", script: `cd "$(dirname "$M")"; "$E" inspect -m "./$(basename "$M")"`,
		prints: "StableDiffusionPipeline"},
}

var environmentSituations = []situation{
	{name: "the C locale", script: `LC_ALL=C LANG=C gen -o a.png -p "ein roter Kreis – é" -json`,
		prints: `"prompt": "ein roter Kreis – é"`, leaves: "a.png=png"},
	{name: "a folder that was removed", script: `mkdir d; cd d; rmdir ../d; gen -o a.png`, code: exitIO,
		says: "cannot write a.png"},
	{name: "an absolute path from a folder that was removed",
		script: `at=$PWD; mkdir d; cd d; rmdir ../d; gen -o "$at/a.png"`, leaves: "a.png=png"},
	{name: "no home", script: `unset HOME XDG_CACHE_HOME; mkdir t; TMPDIR=$PWD/t "$E" plan -profile host; code=$?; rm -r t; exit $code`, prints: "predicted on host-"},
	{name: "a cache that nobody may write",
		script: `mkdir d; chmod 555 d; XDG_CACHE_HOME=$PWD/d "$E" plan -profile host`, says: "is not kept",
		prints: "predicted on host-",
		leaves: "d=folder", user: true},
	{name: "no folder for temporary files", script: "TMPDIR=/no gen -o a.png", leaves: "a.png=png"},
	{name: "an empty environment", script: `env -i "$E" generate -p x -steps 1 -W 8 -H 8 -o a.png`, leaves: "a.png=png"},
	{name: "what a killed run left is taken away", script: "echo old >.euryale-999999999-1; gen -o a.png",
		leaves: "a.png=png"},
	{name: "what is not ours stays", script: "echo old >.euryale; gen -o a.png", leaves: ".euryale=old a.png=png"},
}

// anyCode is for scripts whose last command is not of interest.
const anyCode = -1

// The command does in every situation of the table what is promised: the exit code, what the streams get, and which files
// are there afterwards.
func TestSituations(t *testing.T) {
	if len(situations) < 60 {
		t.Errorf("%d situations, want 60", len(situations))
	}
	file, err := executable()
	if err != nil {
		t.Fatal(err)
	}
	names := map[string]bool{}
	for _, s := range situations {
		if names[s.name] {
			t.Errorf("two situations are called %q", s.name)
		}
		names[s.name] = true
		t.Run(s.name, func(t *testing.T) {
			dir := t.TempDir()
			if s.needs != "" && exec.Command("sh", "-c", s.needs).Run() != nil {
				t.Skipf("there is no such thing here: %s", s.needs)
			}
			ctx, cancel := context.WithTimeout(t.Context(), bounded.Hang)
			defer cancel()
			cmd := exec.CommandContext(ctx, "sh", "-c", prelude+s.script)
			cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
			cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
			cmd.Dir = dir
			cmd.Env = append(os.Environ(), "E="+file, "M="+sd1, "XDG_CACHE_HOME="+t.TempDir())
			if s.user {
				asUser(t, cmd)
			}
			var stdout, stderr bytes.Buffer
			cmd.Stdout, cmd.Stderr = &stdout, &stderr
			cmd.Run()
			if code := cmd.ProcessState.ExitCode(); code != s.code && s.code != anyCode {
				t.Errorf("exit code %d, want %d", code, s.code)
			}
			if !strings.Contains(stderr.String(), s.says) {
				t.Errorf("standard error has no %q", s.says)
			}
			if !strings.Contains(stdout.String(), s.prints) {
				t.Errorf("standard output has no %q", s.prints)
			}
			if s.code != 2 && strings.Contains(stderr.String(), "goroutine ") {
				t.Errorf("a stack is shown")
			}
			if got := tree(t, dir); got != s.leaves {
				t.Errorf("it leaves %q, want %q", got, s.leaves)
			}
			if t.Failed() {
				t.Logf("%s\nstandard output: %.500q\nstandard error: %.1000s", s.script, &stdout, &stderr)
			}
		})
	}
}

// tree lists what lies in a folder as situation.leaves has it.
func tree(t *testing.T, dir string) string {
	t.Helper()
	var list []string
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || path == dir {
			return err
		}
		rel, _ := filepath.Rel(dir, path)
		kind, err := kindOf(path, d)
		list = append(list, rel+"="+kind)
		return err
	})
	if err != nil {
		t.Error(err)
	}
	return strings.Join(list, " ")
}

func kindOf(path string, d fs.DirEntry) (string, error) {
	switch mode := d.Type(); {
	case mode.IsDir():
		return "folder", nil
	case mode&fs.ModeSymlink != 0:
		to, err := os.Readlink(path)
		return ">" + to, err
	case mode&fs.ModeNamedPipe != 0:
		return "pipe", nil
	}
	raw, err := os.ReadFile(path)
	if name := pictureOf(raw); name != "" {
		return name, err
	}
	return strings.TrimSpace(string(raw)), err
}
