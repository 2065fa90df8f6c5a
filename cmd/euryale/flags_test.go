package main

import (
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"runtime/debug"
	"strings"
	"testing"

	"github.com/euryale-ml/euryale/pipeline"
	"github.com/euryale-ml/euryale/sched"
)

// ways are the kinds of runs of a command, by a letter.
type ways []struct {
	letter rune
	flags  string
}

var generateWays = ways{
	{'a', ""}, {'n', "-offload none"}, {'m', "-offload model"}, {'s', "-offload sequential"}, {'g', "-offload group:2"},
	{'v', "-max-vram 4MiB"},
	{'i', "-plan-in PLAN"}, {'d', "-offload model -dry-run"}, {'D', "-offload model -dry-run -json"}, {'t',
		"-offload sequential -trace T"},
}

// refusedByGenerate lists for every flag of generate the ways in which it would do nothing, and is refused.
var refusedByGenerate = map[string]string{
	"m none": "", "variant fp16": "", "links-into .": "", "device cpu": "", "dtype f32": "", "n x": "", "W 16": "", "H 16": "", "steps 2": "", "timesteps 9,3": "", "sigmas 9,0": "", "cfg-scale 2": "",
	"sampler ddim": "", "eta 1": "",
	"clip-skip 1": "", "batch 2": "", "vae-tiling": "", "p x": "", "s 1": "", "guidance-rescale 0.5": "",
	"o a.png": "", "latents-out L": "", "json": "", "quiet": "", "threads 1": "", "check-finite": "",
	"offload model": "i", "max-vram 4MiB": "i", "max-ram 1GiB": "", "prefetch 64KiB": "anmvidD", "keep unet": "anmidD",
	"exclude unet":      "ani",
	"profile a100-gen4": "anmsgiD", "plan-out P": "ai", "memory-plot M": "ai", "plan-in PLAN": "nmsgvdDt",
	"trace T": "adD", "dry-run": "ait",
}

var planWays = ways{
	{'a', ""}, {'n', "-offload none"}, {'m', "-offload model"}, {'s', "-offload sequential"}, {'g', "-offload group:2"},
	{'v', "-max-vram 4MiB"},
	{'c', "-budget-curve 3"}, {'j', "-json"}, {'J', "-json -max-vram 4MiB"}, {'p', "-memory-plot M"},
}

// refusedByPlan lists the same for every flag of plan.
var refusedByPlan = map[string]string{
	"m none": "", "variant fp16": "", "links-into .": "", "device cpu": "", "dtype f32": "", "n x": "", "W 16": "", "H 16": "", "steps 2": "", "timesteps 9,3": "", "sigmas 9,0": "", "cfg-scale 2": "",
	"sampler ddim": "", "eta 1": "",
	"clip-skip 1": "", "batch 2": "", "vae-tiling": "",
	"offload model": "c", "max-vram 4MiB": "c", "max-ram 1GiB": "c", "prefetch 64KiB": "anmvcjJp", "keep unet": "anmcjp",
	"exclude unet":      "nc",
	"profile a100-gen4": "j", "plan-out P": "c", "memory-plot M": "", "json": "c", "compare": "anmsgvcjJ",
	"budget-curve 3": "nmsgvjJ",
}

// Every flag of generate and plan has an effect in every kind of run, or is refused in a line that says why.
func TestFlagsThatDoNothing(t *testing.T) {
	t.Chdir(t.TempDir())
	if code, _, stderr := euryale(t.Context(), "plan", "-m", sd1, "-plan-out", "PLAN"); code != 0 {
		t.Fatalf("exit code %d\n%s", code, stderr)
	}
	for _, c := range []struct {
		command string
		first   []string
		ways    ways
		refused map[string]string
	}{
		{"generate", []string{"generate", "-p", "x"}, generateWays, refusedByGenerate},
		{"plan", []string{"plan"}, planWays, refusedByPlan},
	} {
		missing := map[string]bool{}
		for _, name := range definedFlags(t, c.command) {
			missing[name] = true
		}
		for flags, refused := range c.refused {
			name, _, _ := strings.Cut(flags, " ")
			delete(missing, name)
			for _, way := range c.ways {
				if strings.Contains(" "+way.flags+" ", " -"+name+" ") {
					continue
				}
				args := append(append(append([]string{}, c.first...), strings.Fields(way.flags)...), strings.Fields("-"+flags)...)
				// The model is looked for when the flags are found good.
				code, _, stderr := euryale(t.Context(), append(args, "-m", "none")...)
				switch no := strings.ContainsRune(refused, way.letter); {
				case no && (code != exitUsage || !strings.Contains(stderr, "does nothing here: ") || strings.Count(stderr,
					"\n") != 1):
					t.Errorf("%q: exit code %d, want it refused\n%s", args, code, stderr)
				case !no && code != exitModel:
					t.Errorf("%q: exit code %d, want it taken\n%s", args, code, stderr)
				}
			}
		}
		for name := range missing {
			t.Errorf("the table of %s has no -%s", c.command, name)
		}
	}
}

func definedFlags(t *testing.T, name string) []string {
	t.Helper()
	for _, c := range commands() {
		if c.name == name {
			fs := newFlagSet(name)
			c.define(fs)
			return fs.names()
		}
	}
	t.Fatalf("no command %s", name)
	return nil
}

// What generate takes of the device is what plan says with the same flags, whichever they are.
func TestPlanIsThatOfTheRun(t *testing.T) {
	t.Chdir(t.TempDir())
	missing := map[string]bool{}
	fs := newFlagSet("plan")
	new(requestFlags).register(fs)
	for _, name := range fs.names() {
		missing[name] = true
	}
	delete(missing, "device") // there is one here
	delete(missing, "dtype")
	delete(missing, "variant") // which files are read, not what a picture takes
	delete(missing, "links-into")
	peaks := map[int]bool{}
	cases := []string{"", "-W 48 -H 40", "-steps 3", "-cfg-scale 1", "-clip-skip 1", "-batch 2", "-eta 1 -sampler ddim",
		"-vae-tiling -W 128 -H 128", "-n x", "-timesteps 900,600,300,9 -sampler euler", "-sigmas 9,3,1,0.3,0 -sampler euler"}
	for _, s := range sched.Names() {
		cases = append(cases, "-sampler "+s)
	}
	for _, model := range []string{"sd1", "sdxl"} {
		for _, flags := range cases {
			args := append([]string{"-m", filepath.Join(filepath.Dir(sd1), model), "-offload", "sequential", "-json", "-W",
				"16", "-H", "16", "-steps", "4"}, strings.Fields(flags)...)
			for _, f := range args {
				delete(missing, strings.TrimPrefix(f, "-"))
			}
			var plan struct{ Peak int }
			var sum summary
			for command, into := range map[string]any{"plan": &plan, "generate": &sum} {
				more := map[string][]string{"generate": {"-p", "x", "-s", "1", "-threads", "1", "-quiet"}}[command]
				code, stdout, stderr := euryale(t.Context(), append(append([]string{command}, args...), more...)...)
				if code != 0 || json.Unmarshal([]byte(stdout), into) != nil {
					t.Fatalf("%s %s %s: exit code %d\n%s", command, model, flags, code, stderr)
				}
			}
			if plan.Peak == 0 || plan.Peak != sum.Offload.PeakBytes {
				t.Errorf("%s %s: %d bytes are planned, %d taken", model, flags, plan.Peak, sum.Offload.PeakBytes)
			}
			peaks[plan.Peak] = true
		}
	}
	for name := range missing {
		t.Errorf("-%s is not tried", name)
	}
	if len(peaks) < 8 {
		t.Errorf("all these are of %d peaks: the flags change nothing", len(peaks))
	}
}

func TestNearest(t *testing.T) {
	names := []string{"steps", "sampler", "s", "p", "W", "H", "max-vram", "max-ram", "cfg-scale"}
	for word, want := range map[string]string{
		"stpes": "steps", "step": "steps", "max-vrm": "max-vram", "cfgscale": "cfg-scale", "x": "", "frobnicate": "",
		"sampel": "sampler", "": "",
	} {
		if got := nearest(word, names); got != want {
			t.Errorf("nearest(%q) = %q, want %q", word, got, want)
		}
	}
}

func TestVersion(t *testing.T) {
	info := &debug.BuildInfo{Main: debug.Module{Version: "v1.2.3"}, Settings: []debug.BuildSetting{
		{Key: "vcs.revision", Value: "abc"}, {Key: "vcs.modified", Value: "true"}, {Key: "vcs.time",
			Value: "2026-11-25T00:00:00Z"}, {Key: "-tags", Value: "gpu"}}}
	if got, want := versionOf(info),
		"euryale v1.2.3, revision abc with changes of 2026-11-25T00:00:00Z, tags gpu, go"; !strings.HasPrefix(got, want) {
		t.Errorf("%q, want %q", got, want)
	}
	if got := versionOf(nil); !strings.HasPrefix(got, "euryale (devel), go") {
		t.Errorf("%q", got)
	}
}

// Help shows every flag once, under a topic.
func TestHelp(t *testing.T) {
	for _, c := range commands() {
		code, help, stderr := euryale(t.Context(), c.name, "-h")
		if code != 0 || stderr != "" {
			t.Errorf("%s: exit code %d\n%s", c.name, code, stderr)
		}
		for _, name := range definedFlags(t, c.name) {
			if n := strings.Count(help, "\n  -"+name+" "); n != 1 {
				t.Errorf("%s -h shows -%s %d times", c.name, name, n)
			}
		}
		if strings.Contains(help, "`") {
			t.Errorf("%s -h shows marks of its source:\n%s", c.name, help)
		}
	}
}

// A list is numbers, and nothing else is taken for one.
func TestListFlags(t *testing.T) {
	for args, want := range map[string]string{
		"-timesteps=9,x":        "want whole numbers with commas between",
		"-timesteps=":           "want whole numbers",
		"-timesteps=9,":         "want whole numbers",
		"-timesteps=9.5,3":      "want whole numbers",
		"-timesteps=9;3":        "want whole numbers",
		"-sigmas=9,nan":         "want numbers with commas between",
		"-sigmas=inf,0":         "want numbers",
		"-sigmas=1e999,0":       "want numbers",
		"-sigmas=3,,0":          "want numbers",
		"-timesteps=-1, 20, -3": "",
		"-sigmas=9, .5, 0":      "",
	} {
		fs := newFlagSet("generate")
		newGenerate(fs)
		_, err := fs.parse([]string{args})
		if (err == nil) != (want == "") || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", args, err, want)
		}
	}
}

// Every flag of a picture reaches the request; so does that none is given.
func TestFlagsAreTheRequest(t *testing.T) {
	seven := pipeline.Seed(7)
	for line, want := range map[string]pipeline.Request{
		"-p x": {Prompt: "x"},
		"-p x -n y -W 16 -H 24 -steps 3 -cfg-scale 2.5 -guidance-rescale 0.25 -eta 0.5 -sampler ddim -clip-skip 1 -batch 2 -s 7": {
			Prompt: "x", NegativePrompt: "y", Width: 16, Height: 24, NumInferenceSteps: 3, GuidanceScale: 2.5,
			GuidanceRescale: 0.25,
			Eta:             0.5, Scheduler: "ddim", ClipSkip: 1, NumImagesPerPrompt: 2, Seed: seven},
		"-p x -timesteps 999,500,20": {Prompt: "x", Timesteps: []int{999, 500, 20}},
		"-p x -sigmas 9.5,1e-1,0":    {Prompt: "x", Sigmas: []float64{9.5, 0.1, 0}},
		"-p x -cfg-scale 0":          {Prompt: "x", GuidanceScale: 1},
		"-p x -cfg-scale 1e-50":      {Prompt: "x", GuidanceScale: 1},
		"-p x -s -1":                 {Prompt: "x"},
	} {
		fs := newFlagSet("generate")
		f := newGenerate(fs)
		if _, err := fs.parse(strings.Fields(line)); err != nil {
			t.Fatal(err)
		}
		if err := f.check(fs); err != nil {
			t.Fatal(err)
		}
		if got := f.req; !reflect.DeepEqual(got, want) {
			t.Errorf("%s: %+v, want %+v", line, got, want)
		}
	}
	fs := newFlagSet("generate")
	f := newGenerate(fs)
	if _, err := fs.parse(strings.Fields("-p x -n y -cfg-scale 1")); err != nil {
		t.Fatal(err)
	}
	if err := f.check(fs); err == nil || !strings.Contains(err.Error(), "-n does nothing without guidance") {
		t.Errorf("a negative prompt without guidance: %v", err)
	}
}

// A folder whose weights are of variants, or lie elsewhere, says which flag helps, and the flag does.
func TestVariantsAndLinks(t *testing.T) {
	dir := t.TempDir()
	if err := os.CopyFS(filepath.Join(dir, "model"), os.DirFS(sd1)); err != nil {
		t.Fatal(err)
	}
	weights := filepath.Join(dir, "model", "unet", "diffusion_pytorch_model")
	inspect := func(more ...string) (int, string) {
		code, _, stderr := euryale(t.Context(), append([]string{"plan", "-m", filepath.Join(dir, "model"), "-steps", "1"}, more...)...)
		return code, stderr
	}
	if err := os.Rename(weights+".safetensors", weights+".bf16.safetensors"); err != nil {
		t.Fatal(err)
	}
	if code, stderr := inspect(); code != exitModel || !strings.Contains(stderr, "the variants bf16") || !strings.Contains(stderr, "-variant") {
		t.Errorf("exit code %d: %s", code, stderr)
	}
	if code, stderr := inspect("-variant", "bf16"); code != 0 {
		t.Errorf("exit code %d: %s", code, stderr)
	}
	disk := filepath.Join(dir, "disk")
	if err := errors.Join(os.Mkdir(disk, 0o777), os.Rename(weights+".bf16.safetensors", filepath.Join(disk, "w")),
		os.Symlink(filepath.Join(disk, "w"), weights+".safetensors")); err != nil {
		t.Skip("no links here:", err)
	}
	if code, stderr := inspect(); code != exitModel || !strings.Contains(stderr, "-links-into "+disk) {
		t.Errorf("exit code %d: %s", code, stderr)
	}
	if code, stderr := inspect("-links-into", disk); code != 0 {
		t.Errorf("exit code %d: %s", code, stderr)
	}
}
