package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// complete is what bash offers for a line, whose last word is being typed.
func complete(t *testing.T, script, dir string, words ...string) string {
	t.Helper()
	const ask = `source "$0"; COMP_WORDS=(euryale "$@"); COMP_CWORD=$#; _euryale; printf '%s\n' "${COMPREPLY[@]}" | sort`
	cmd := exec.Command("bash", append([]string{"-c", ask, script}, words...)...)
	cmd.Dir = dir
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	return strings.Join(strings.Fields(string(out)), " ")
}

func TestCompletionInBash(t *testing.T) {
	if _, err := exec.LookPath("bash"); err != nil {
		t.Skip(err)
	}
	code, script, stderr := euryale(t.Context(), "completion", "bash")
	if code != 0 {
		t.Fatalf("exit code %d\n%s", code, stderr)
	}
	file, dir := filepath.Join(t.TempDir(), "script"), t.TempDir()
	for _, err := range []error{os.WriteFile(file, []byte(script), 0o666), os.Mkdir(filepath.Join(dir, "model"), 0o777),
		os.WriteFile(filepath.Join(dir, "mine.json"), nil, 0o666)} {
		if err != nil {
			t.Fatal(err)
		}
	}
	for line, want := range map[string]string{
		"g":                            "generate",
		"":                             "completion doctor generate help inspect plan version",
		"generate -sa":                 "-sampler",
		"generate --ma":                "--max-ram --max-vram",
		"plan --plan-":                 "--plan-out",
		"generate -sampler dpm":        "dpm++2m dpm++2m_karras",
		"generate -p x --offload se":   "sequential",
		"generate -m m":                "model",
		"generate -plan-in m":          "mine.json model",
		"generate -p ":                 "",
		"completion ":                  "bash fish zsh",
		"doctor -":                     "-json -threads",
		"generate --cfg-scale 3 --see": "",
	} {
		if got := complete(t, file, dir, strings.Split(line, " ")...); got != want {
			t.Errorf("%q: %q, want %q", line, got, want)
		}
	}
}

// The scripts for other shells have every command and flag. Where the shell is there, it reads them.
func TestCompletionInOtherShells(t *testing.T) {
	for shell, forms := range map[string][]string{"zsh": {"'--%[", "'-%["}, "fish": {"-o % -l %"}} {
		code, script, stderr := euryale(t.Context(), "completion", shell)
		if code != 0 {
			t.Fatalf("exit code %d\n%s", code, stderr)
		}
		for _, c := range commands() {
			if !strings.Contains(script, c.name) {
				t.Errorf("%s: no %s", shell, c.name)
			}
			for _, name := range definedFlags(t, c.name) {
				for _, form := range forms {
					if len(name) == 1 && shell == "fish" {
						form = "-s %"
					}
					if !strings.Contains(script, strings.ReplaceAll(form, "%", name)) {
						t.Errorf("%s: no -%s of %s", shell, name, c.name)
					}
				}
			}
		}
		path, err := exec.LookPath(shell)
		if err != nil {
			t.Logf("%s is not here to read its script", shell)
			continue
		}
		cmd := exec.Command(path, "-n")
		cmd.Stdin = strings.NewReader(script)
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Errorf("%s: %v\n%s", shell, err, out)
		}
	}
	if code, _, stderr := euryale(t.Context(), "completion"); code != exitUsage || !strings.Contains(stderr,
		"bash, zsh or fish") {
		t.Errorf("exit code %d\n%s", code, stderr)
	}
	if code, _, stderr := euryale(t.Context(), "completion", "tcsh"); code != exitUsage || !strings.Contains(stderr,
		`not "tcsh"`) {
		t.Errorf("exit code %d\n%s", code, stderr)
	}
}
