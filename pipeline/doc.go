// Package pipeline turns prompts into pictures with the models of diffusers.
//
//	m, err := loader.Open("stable-diffusion-v1-5")
//	p, err := pipeline.NewTextToImage(m)
//	res, err := p.Generate(ctx, pipeline.Request{Prompt: "a red circle on a blue background"})
//	png.Encode(w, res.Images[0])
//
// The same model, request and seed give the same picture as diffusers does on the CPU in float32. What a pipeline runs are
// stages of a graphs.Runtime, so options of package graphs say on what device, in how much memory and by what plan.
package pipeline
