// Package graphs runs diffusion models: pipelines that turn a prompt into pictures, and a VM for any Gorgonia
// expression graph.
//
//	m, err := loader.Open("stable-diffusion-v1-5")
//	p, err := graphs.NewTextToImage(m)
//	res, err := p.Generate(ctx, graphs.Request{Prompt: "a red circle on a blue background"})
//	png.Encode(w, res.Images[0])
//
// The same model, request and seed give the same picture as diffusers does on the CPU in float32.
package graphs
