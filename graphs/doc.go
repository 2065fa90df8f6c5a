// Package graphs runs diffusion models: pipelines that turn a prompt into pictures, and a runtime for any Gorgonia
// expression graphs, in the device memory that a plan of package offload gives them.
//
//	m, err := loader.Open("stable-diffusion-v1-5")
//	p, err := graphs.NewTextToImage(m)
//	res, err := p.Generate(ctx, graphs.Request{Prompt: "a red circle on a blue background"})
//	png.Encode(w, res.Images[0])
//
// A program with graphs of its own opens a Runtime, compiles them into it, and runs them as a list of stages:
//
//	rt, err := graphs.Open(graphs.WithWeights(source), graphs.WithOffload(offload.Auto(64<<20)))
//	vm, err := rt.Compile(out)
//	stats, err := rt.Run(ctx, []graphs.Stage{{VM: vm, Passes: 20, Bind: bind, Read: read}})
//
// The same model, request and seed give the same picture as diffusers does on the CPU in float32.
package graphs
