package main

import (
	"context"
	"encoding/json"
	"image"

	"github.com/euryale-ml/euryale/graphs"
	"github.com/euryale-ml/euryale/loader"
	"github.com/euryale-ml/euryale/pipeline"
)

// modelCase is a folder and a request, with the names of diffusers' arguments.
type modelCase struct {
	Seed      uint64
	Folder    string
	Scheduler string
	Arguments struct {
		Prompt             string
		Prompt2            string  `json:"prompt_2"`
		NegativePrompt     string  `json:"negative_prompt"`
		NumInferenceSteps  int     `json:"num_inference_steps"`
		GuidanceScale      float32 `json:"guidance_scale"`
		GuidanceRescale    float32 `json:"guidance_rescale"`
		ClipSkip           int     `json:"clip_skip"`
		NumImagesPerPrompt int     `json:"num_images_per_prompt"`
		Height, Width      int
		OriginalSize       [2]int `json:"original_size"`
		CropsCoordsTopLeft [2]int `json:"crops_coords_top_left"`
	}
}

// modelAnswer has the final latents, float32, and the pixels, one byte a channel.
type modelAnswer struct {
	Error   string
	Shape   []int
	Latents []byte
	Pixels  []byte
}

func model(line []byte) (any, error) {
	var c modelCase
	if err := json.Unmarshal(line, &c); err != nil {
		return nil, err
	}
	a, err := c.draw()
	if err != nil {
		return modelAnswer{Error: err.Error()}, nil
	}
	return a, nil
}

func (c modelCase) draw() (a modelAnswer, err error) {
	m, err := loader.Open(c.Folder)
	if err != nil {
		return a, err
	}
	defer m.Close()
	p, err := pipeline.NewTextToImage(m, graphs.WithThreads(1))
	if err != nil {
		return a, err
	}
	defer p.Close()
	k := c.Arguments
	res, err := p.Generate(context.Background(), pipeline.Request{
		Prompt: k.Prompt, Prompt2: k.Prompt2, NegativePrompt: k.NegativePrompt, NumInferenceSteps: k.NumInferenceSteps,
		GuidanceScale: k.GuidanceScale, GuidanceRescale: k.GuidanceRescale, ClipSkip: k.ClipSkip, NumImagesPerPrompt: k.NumImagesPerPrompt,
		Height: k.Height, Width: k.Width, OriginalSize: k.OriginalSize, CropsCoordsTopLeft: k.CropsCoordsTopLeft,
		Scheduler: c.Scheduler, Seed: pipeline.Seed(c.Seed),
	})
	if err != nil {
		return a, err
	}
	a.Shape, a.Latents = res.Latents.Shape(), bytes(res.Latents.Float32s()...)
	for _, img := range res.Images {
		px := img.(*image.NRGBA)
		for i := 0; i < len(px.Pix); i += 4 {
			a.Pixels = append(a.Pixels, px.Pix[i:i+3]...)
		}
	}
	return a, nil
}
