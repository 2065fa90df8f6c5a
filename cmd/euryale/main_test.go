package main

import (
	"bytes"
	"context"
	"encoding/json"
	"image/png"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/euryale-ml/euryale/internal/golden"
)

// euryale runs the command as a shell would.
func euryale(ctx context.Context, args ...string) (code int, stdout, stderr string) {
	var out, errs bytes.Buffer
	code = run(ctx, args, &out, &errs)
	return code, out.String(), errs.String()
}

var sd1 = filepath.Join(golden.Dir(), "sd1")

func TestExitCodesAndMessages(t *testing.T) {
	dir := t.TempDir()
	t.Setenv("XDG_CACHE_HOME", t.TempDir()) // of measured profiles
	out := filepath.Join(dir, "out.png")
	for _, c := range []struct {
		args []string
		code int
		want string
	}{
		{nil, exitUsage, "usage: euryale"},
		{[]string{"genrate"}, exitUsage, "did you mean generate?"},
		{[]string{"-p", "x"}, exitUsage, "a command comes first"},
		{[]string{"help", "plan"}, 0, "-budget-curve"},
		{[]string{"help", "x"}, exitUsage, `unknown command "x"`},
		{[]string{"--version"}, 0, "euryale "},
		{[]string{"help"}, 0, "generate"},
		{[]string{"draw"}, exitUsage, `unknown command "draw"`},
		{[]string{"generate", "-h"}, 0, "-cfg-scale"},
		{[]string{"generate", "--frobnicate"}, exitUsage, "generate has no flag -frobnicate"},
		{[]string{"generate", "--stpes", "3"}, exitUsage, "did you mean -steps?"},
		{[]string{"generate", "--prompt", "x"}, exitUsage, "did you mean -p?"},
		{[]string{"generate"}, exitUsage, "a prompt is needed"},
		{[]string{"generate", "a", "cat"}, exitUsage, `does not take the argument "a"`},
		{[]string{"generate", "-p", "x", "--steps", "many", "-o", out}, exitUsage, "want a whole number"},
		{[]string{"generate", "-p", "x", "--steps", "0", "-o", out}, exitUsage, "flag -steps: want 1 or more"},
		{[]string{"generate", "-m", sd1, "-p", "x", "--steps", "-3", "-o", out}, exitUsage, "flag -steps: want 1 or more"},
		{[]string{"generate", "-m", sd1, "-p", "x", "-H", "500", "-o", out}, exitUsage,
			"height 500 is not a multiple of 8; nearest are 496 and 504"},
		{[]string{"generate", "-m", sd1, "-p", "x", "--sampler", "heun", "-o", out}, exitUsage, `"heun" is not one of ddim`},
		{[]string{"generate", "-m", sd1, "-p", "x", "--threads", "-1", "-o", out}, exitUsage,
			"flag -threads: want 1 to 1024"},
		{[]string{"generate", "-m", sd1, "-p", "x", "-o", filepath.Join(dir, "no", "out.png")}, exitIO, "cannot write"},
		{[]string{"generate", "-m", sd1, "-p", "x", "-o", dir}, exitIO, "is a folder"},
		{[]string{"generate", "-m", filepath.Join(dir, "none"), "-p", "x", "-o", out}, exitModel, "missing"},
		{[]string{"generate", "-m", dir, "-p", "x", "-o", out}, exitModel, "model_index.json: missing"},
		{[]string{"inspect", "-m", filepath.Join(dir, "none")}, exitModel, "missing"},
		{[]string{"generate", "-m", sd1, "-p", "x", "--offload", "half", "-o", out}, exitUsage,
			`strategy "half" is not one of none`},
		{[]string{"generate", "-m", sd1, "-p", "x", "--offload", "auto", "-o", out}, exitUsage, "auto needs a budget"},
		{[]string{"generate", "-m", sd1, "-p", "x", "--max-vram", "lots", "-o", out}, exitUsage, "want a size"},
		{[]string{"generate", "-m", sd1, "-p", "x", "--max-vram", "2", "-o", out}, exitUsage,
			"want a unit: 2GiB, 2MiB or 2B"},
		{[]string{"generate", "-m", sd1, "-p", "x", "--max-vram", "1KiB", "-o", out}, exitMemory,
			"the smallest that works is"},
		{[]string{"generate", "-m", sd1, "-p", "x", "--max-ram", "1KiB", "-o", out}, exitMemory,
			"of host memory, the budget is 1 KiB"},
		{[]string{"generate", "-m", sd1, "-p", "x", "--offload", "sequential", "--keep", "unet.mid", "-o", out}, exitUsage,
			"nearest are unet"},
		{[]string{"generate", "-m", sd1, "-p", "x", "--keep", "unet", "-o", out}, exitUsage,
			"-keep does nothing here: it needs -offload"},
		{[]string{"generate", "-m", sd1, "-p", "x", "--plan-in", filepath.Join(dir, "none"), "-o", out}, exitIO,
			"no such file"},
		{[]string{"plan", "-m", sd1}, 0, "peak"},
		{[]string{"plan", "-m", sd1, "--dtype", "f16"}, 0, "peak"},
		{[]string{"plan", "-m", sd1, "--dtype", "f8"}, exitUsage, "f16, bf16, f32"},
		{[]string{"plan", "-m", sd1, "--budget-curve", "5"}, 0, "MiB"},
		{[]string{"plan", "-m", sd1, "--budget-curve", "1000000"}, exitUsage, "flag -budget-curve: want 1 to 256"},
		{[]string{"generate", "-m", sd1, "-p", "x", "--device", "cuda:x", "-o", out}, exitUsage, "is not cpu or cuda:N"},
		{[]string{"generate", "-m", sd1, "-p", "x", "--dtype", "f16", "-o", out}, exitUsage, "for CUDA devices"},
		{[]string{"generate", "-m", sd1, "-p", "x", "--device", "cuda:9", "-o", out}, exitDevice, "cuda:9"},
		{[]string{"plan", "-m", sd1, "--profile", "host"}, 0, "predicted on host-"},
		{[]string{"plan", "-m", sd1, "--profile", "gtx"}, exitUsage, "no profile"},
		{[]string{"inspect", "x"}, exitUsage, "does not take"},
		{[]string{"doctor", "--gpu"}, exitUsage, "doctor has no flag -gpu"},
		{[]string{"doctor", "--threads", "-3"}, exitUsage, "want 1 to 1024"},
		{[]string{"generate", "-m", sd1, "-p", "x", "-o", ""}, exitUsage, "-o is empty"},
		{[]string{"generate", "-m", sd1, "-p", "x", "--memory-plot", "x.svg", "-o", out}, exitUsage,
			"-memory-plot does nothing here: it needs -offload"},
	} {
		code, stdout, stderr := euryale(t.Context(), c.args...)
		if code != c.code || !strings.Contains(stdout+stderr, c.want) {
			t.Errorf("%q: exit code %d, want %d with %q\n%s%s", c.args, code, c.code, c.want, stdout, stderr)
		}
		if strings.Contains(stdout+stderr, "goroutine") {
			t.Errorf("%q shows a stack", c.args)
		}
	}
	left, err := os.ReadDir(dir)
	if err != nil || len(left) != 0 {
		t.Errorf("files are left behind: %v, %v", left, err)
	}
}

func TestGenerateWritesWhatItSays(t *testing.T) {
	dir := t.TempDir()
	out, latents := filepath.Join(dir, "out.png"), filepath.Join(dir, "latents.safetensors")
	code, stdout, stderr := euryale(t.Context(), "generate", "-m", sd1, "-p", "a red circle — é", "-n", "a bar",
		"--steps", "2", "-s", "7",
		"-W", "48", "-H", "40", "--batch", "2", "--sampler", "euler", "-o", out, "--latents-out", latents, "--json",
		"--check-finite")
	if code != 0 {
		t.Fatalf("exit code %d\n%s", code, stderr)
	}
	var s summary
	if err := json.Unmarshal([]byte(stdout), &s); err != nil {
		t.Fatalf("%v\n%s", err, stdout)
	}
	if v := s.Times; v.Load <= 0 || v.Text <= 0 || len(v.Steps) != 2 || v.Steps[1] <= 0 || v.Decode <= 0 ||
		v.Load+v.Text+v.Steps[0]+v.Steps[1]+v.Decode > s.Seconds {
		t.Errorf("%+v of %g s", v, s.Seconds)
	}
	second := filepath.Join(dir, "out-2.png")
	if len(s.Files) != 2 || s.Files[0] != out || s.Files[1] != second || s.Seed != 7 || s.Steps != 2 || s.Width != 48 ||
		s.Height != 40 || s.Sampler != "euler" {
		t.Errorf("summary %+v", s)
	}
	for _, file := range s.Files {
		raw, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		img, err := png.Decode(bytes.NewReader(raw))
		if err != nil || img.Bounds().Dx() != 48 || img.Bounds().Dy() != 40 {
			t.Errorf("%s: %v", file, err)
		}
		if !bytes.Contains(raw,
			[]byte("iTXtparameters\x00\x00\x00\x00\x00a red circle — é\nNegative prompt: a bar\nSteps: 2, Sampler: euler, CFG scale: 7.5, Seed: 7, Size: 48x40")) {
			t.Errorf("%s: no parameters in the text chunk", file)
		}
	}
	if raw, err := os.ReadFile(latents); err != nil || !bytes.Contains(raw,
		[]byte(`"latents":{"dtype":"F32","shape":[2,4,10,12]`)) {
		t.Errorf("latents: %v", err)
	}
	if !strings.Contains(stderr, "step 2/2") {
		t.Errorf("no progress on standard error:\n%s", stderr)
	}
	if files, _ := os.ReadDir(dir); len(files) != 3 {
		t.Errorf("%d files, want 3", len(files))
	}
}

func TestCancelledRunsLeaveNothing(t *testing.T) {
	dir := t.TempDir()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	code, _, stderr := euryale(ctx, "generate", "-m", sd1, "-p", "x", "-o", filepath.Join(dir, "out.png"))
	if code != exitCancelled || !strings.Contains(stderr, "cancelled") {
		t.Errorf("exit code %d\n%s", code, stderr)
	}
	if files, _ := os.ReadDir(dir); len(files) != 0 {
		t.Errorf("files are left: %v", files)
	}
}

func TestInspectAndDoctor(t *testing.T) {
	code, stdout, _ := euryale(t.Context(), "inspect", "-m", sd1, "--layers")
	for _, want := range []string{"StableDiffusionPipeline", "UNet2DConditionModel",
		"unet.down_blocks.0.resnets.0.conv1", "weight F32 [16 16 3 3]"} {
		if code != 0 || !strings.Contains(stdout, want) {
			t.Errorf("inspect: exit code %d, no %q in\n%.2000s", code, want, stdout)
		}
	}
	code, stdout, _ = euryale(t.Context(), "inspect", "-m", sd1, "--json")
	var v struct{ Components []componentInfo }
	if err := json.Unmarshal([]byte(stdout), &v); code != 0 || err != nil || len(v.Components) != 5 {
		t.Errorf("inspect --json: exit code %d, %v, %d components", code, err, len(v.Components))
	}
	code, stdout, _ = euryale(t.Context(), "doctor")
	if code != 0 || !strings.Contains(stdout, "GFLOP/s") {
		t.Errorf("doctor: exit code %d\n%s", code, stdout)
	}
}
