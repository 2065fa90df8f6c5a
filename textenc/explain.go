package textenc

import "github.com/euryale-ml/euryale/layers"

// Explain says which fields of the config the weights contradict. It is asked when Build finds that they do not fit.
func (cfg Config) Explain(p layers.Params) error {
	m := layers.Misfits{Params: p, File: cfg.file}
	const table, layer = "text_model.embeddings.token_embedding.weight", "text_model.encoder.layers."
	m.Dim("vocab_size", cfg.VocabSize, table, 0)
	m.Dim("hidden_size", cfg.Hidden, table, 1)
	m.Dim("max_position_embeddings", cfg.MaxPositions, "text_model.embeddings.position_embedding.weight", 0)
	m.Dim("intermediate_size", cfg.Intermediate, layer+"0.mlp.fc1.weight", 0)
	m.Count("num_hidden_layers", cfg.Layers, layer+"%d.mlp.fc1.weight")
	m.Dim("projection_dim", cfg.ProjectionDim, "text_projection.weight", 0)
	return m.Err()
}
