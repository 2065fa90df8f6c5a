package plot

import (
	"encoding/json"
	"io"
	"maps"
	"slices"
	"time"

	"github.com/euryale-ml/euryale/offload"
)

// traceEntry is an event of the Trace Event Format, which chrome://tracing and Perfetto read.
type traceEntry struct {
	Name    string         `json:"name"`
	Phase   string         `json:"ph"`
	Time    float64        `json:"ts"` // microseconds
	Dur     float64        `json:"dur,omitempty"`
	Process int            `json:"pid"`
	Thread  int            `json:"tid"`
	Args    map[string]any `json:"args,omitempty"`
}

// Rows of a process.
const compute, copies = 1, 2

// WriteTrace writes traces for chrome://tracing and Perfetto: a process for each, with a row of calls, a row of copies
// and a counter of bytes copied.
func WriteTrace(w io.Writer, traces map[string][]offload.Event) error {
	micro := func(d time.Duration) float64 { return float64(d) / 1e3 }
	var all []traceEntry
	for i, name := range slices.Sorted(maps.Keys(traces)) {
		all = append(all, traceEntry{"process_name", "M", 0, 0, i, 0, map[string]any{"name": name}},
			traceEntry{"thread_name", "M", 0, 0, i, compute, map[string]any{"name": "compute"}},
			traceEntry{"thread_name", "M", 0, 0, i, copies, map[string]any{"name": "copy"}})
		sum := 0
		for _, e := range traces[name] {
			begin, length := micro(e.Begin), micro(e.End-e.Begin)
			if !e.Copy {
				all = append(all, traceEntry{e.Name, "X", begin, length, i, compute, nil})
				continue
			}
			sum += e.Bytes
			all = append(all, traceEntry{e.Name, "X", begin, length, i, copies, map[string]any{"bytes": e.Bytes}},
				traceEntry{"uploaded", "C", micro(e.End), 0, i, 0, map[string]any{"bytes": sum}})
		}
	}
	return json.NewEncoder(w).Encode(map[string]any{"traceEvents": all, "displayTimeUnit": "ms"})
}
