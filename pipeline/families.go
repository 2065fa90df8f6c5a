package pipeline

import (
	"maps"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/euryale-ml/euryale/internal/badmodel"
	"github.com/euryale-ml/euryale/unet"
)

// family is what differs between classes of pipelines, and nothing else in this package tells them apart.
type family struct {
	encoders []string // components, in the order in which their states are joined
	classes  []string // that the encoders may be of
	guidance float32  // the scale of requests that name none

	states textOptions // of the encoders that the UNet sees; skip are layers that are always left out
	// The UNet is told the pooled state of the first encoder that has a projection, and the sizes of the picture: its
	// addition_embed_type is text_time.
	textTime  bool
	zeroEmpty bool // an empty negative prompt may be all zeros: force_zeros_for_empty_prompt

	masked     bool // the pipeline gives encoders their attention mask where use_attention_mask is true
	watermark  bool // add_watermarker is an argument of the pipeline
	upcastsVAE bool // the VAE's force_upcast is honoured
	patchUNet  func(file string, cfg *unet.Config) error
}

// families are diffusers' classes.
var families = map[string]family{
	"StableDiffusionPipeline": {
		encoders: []string{"text_encoder"},
		// Without projection the hidden states are the first of a text model's results, which is what the UNet takes.
		classes:   []string{"CLIPTextModel"},
		guidance:  7.5,
		states:    textOptions{norm: true},
		masked:    true,
		patchUNet: patchOldUNet,
	},
	"StableDiffusionXLPipeline": {
		encoders:   []string{"text_encoder", "text_encoder_2"},
		classes:    []string{"CLIPTextModel", "CLIPTextModelWithProjection"},
		guidance:   5,
		states:     textOptions{skip: 1}, // the last layer but one, as it is
		textTime:   true,
		zeroEmpty:  true,
		watermark:  true,
		upcastsVAE: true,
	},
}

// familyOf finds the family of a pipeline class.
func familyOf(class string) (family, error) {
	f, ok := families[class]
	if !ok {
		return f, &badmodel.Error{File: "model_index.json", Field: "_class_name", Got: badmodel.Quote(class),
			Want: strings.Join(slices.Sorted(maps.Keys(families)), " or ")}
	}
	return f, nil
}

// patchOldUNet is what StableDiffusionPipeline does to UNets saved before diffusers 0.9.0: a size below 64, which the
// default was once, is raised to 64.
func patchOldUNet(file string, cfg *unet.Config) error {
	if cfg.Version == "" {
		return nil
	}
	// What follows the numbers, .dev0 or rc1, is not compared.
	release := pythonRelease.FindStringSubmatch(cfg.Version)
	if release == nil {
		return &badmodel.Error{File: file, Field: "_diffusers_version", Got: badmodel.Quote(cfg.Version), Want: "a version, 0.34.0 say"}
	}
	major, _ := strconv.Atoi(release[1])
	minor, _ := strconv.Atoi(release[2])
	if len(cfg.SampleSize) == 1 && cfg.SampleSize[0] < 64 && major == 0 && minor < 9 {
		cfg.SampleSize = []int{64}
	}
	return nil
}

// pythonRelease is the beginning of a version of a Python package.
var pythonRelease = regexp.MustCompile(`^\s*v?(\d{1,4})(?:\.(\d{1,4}))?(?:\D|$)`)
