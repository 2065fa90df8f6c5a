// Package graphs runs Gorgonia expression graphs, in the device memory that a plan of package offload gives them. A
// program opens a Runtime, compiles its graphs into it, and runs them as a list of stages, which is what is planned,
// proven and executed:
//
//	rt, err := graphs.Open(graphs.WithWeights(source), graphs.WithOffload(offload.Auto(64<<20)))
//	vm, err := rt.Compile(out)
//	stats, err := rt.Run(ctx, []graphs.Stage{{VM: vm, Passes: 20, Bind: bind, Read: read}})
//
// NewVM is the short form for one graph.
package graphs
