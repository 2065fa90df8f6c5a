package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"sort"
	"strings"
	"text/tabwriter"

	"github.com/euryale-ml/euryale/loader"
)

// componentInfo is one component as inspect shows it.
type componentInfo struct {
	Name       string      `json:"name"`
	Class      string      `json:"class"`
	DTypes     []string    `json:"dtypes,omitempty"`
	Parameters int64       `json:"parameters"`
	Bytes      int64       `json:"bytes"`
	Tensors    int         `json:"tensors"`
	Layers     []layerInfo `json:"layers,omitempty"`
}

// layerInfo is the tensors that share a name up to the last dot.
type layerInfo struct {
	Name       string   `json:"name"`
	Tensors    []string `json:"tensors"`
	Parameters int64    `json:"parameters"`
	Bytes      int64    `json:"bytes"`
}

func defineInspect(fs *flagSet) runner {
	var model modelFlags
	var layers, asJSON bool
	fs.topic("Flags")
	model.register(fs)
	fs.yes(&layers, "layers", "list every layer")
	fs.yes(&asJSON, "json", "print JSON, layers included")
	return abandon(func(_ context.Context, stdout, _ io.Writer) error { return inspect(stdout, &model, layers, asJSON) })
}

func inspect(stdout io.Writer, model *modelFlags, layers, asJSON bool) error {
	m, err := model.open()
	if err != nil {
		return err
	}
	defer m.Close()
	var all []componentInfo
	for _, c := range m.Components() {
		info := componentInfo{Name: c.Name, Class: c.Class}
		if c.HasWeights() {
			w, err := c.Weights()
			if err != nil {
				return err
			}
			info.count(w)
		}
		all = append(all, info)
	}
	if asJSON {
		e := json.NewEncoder(stdout)
		e.SetIndent("", "  ")
		return e.Encode(struct {
			Class      string          `json:"class"`
			Components []componentInfo `json:"components"`
		}{m.Class(), all})
	}
	fmt.Fprintln(stdout, m.Class())
	return printComponents(stdout, all, layers)
}

func (info *componentInfo) count(w *loader.Weights) {
	dtypes, layer := map[string]bool{}, map[string]*layerInfo{}
	for _, name := range w.Names() {
		t, _ := w.Info(name)
		n := int64(1)
		for _, d := range t.Shape {
			n *= int64(d)
		}
		dtypes[t.Stored] = true
		info.Parameters += n
		info.Bytes += t.Bytes
		info.Tensors++
		at, last := "", name
		if i := strings.LastIndexByte(name, '.'); i >= 0 {
			at, last = name[:i], name[i+1:]
		}
		l := layer[at]
		if l == nil {
			l = &layerInfo{Name: at}
			layer[at] = l
		}
		l.Tensors = append(l.Tensors, fmt.Sprintf("%s %s %v", last, t.Stored, t.Shape))
		l.Parameters += n
		l.Bytes += t.Bytes
	}
	for t := range dtypes {
		info.DTypes = append(info.DTypes, t)
	}
	sort.Strings(info.DTypes)
	for _, l := range layer {
		info.Layers = append(info.Layers, *l)
	}
	sort.Slice(info.Layers, func(i, j int) bool { return info.Layers[i].Name < info.Layers[j].Name })
}

func printComponents(w io.Writer, all []componentInfo, layers bool) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(t, "component\tclass\tstored as\ttensors\tparameters\tMiB\t")
	var sum componentInfo
	for _, c := range all {
		if c.Tensors == 0 {
			fmt.Fprintf(t, "%s\t%s\t\t\t\t\t\n", c.Name, c.Class)
			continue
		}
		fmt.Fprintf(t, "%s\t%s\t%s\t%d\t%d\t%.2f\t\n", c.Name, c.Class, strings.Join(c.DTypes, " "), c.Tensors, c.Parameters, mib(c.Bytes))
		sum.Tensors += c.Tensors
		sum.Parameters += c.Parameters
		sum.Bytes += c.Bytes
	}
	fmt.Fprintf(t, "all\t\t\t%d\t%d\t%.2f\t\n", sum.Tensors, sum.Parameters, mib(sum.Bytes))
	if err := t.Flush(); err != nil || !layers {
		return err
	}
	t = tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	for _, c := range all {
		for _, l := range c.Layers {
			fmt.Fprintf(t, "%s.%s\t%d\t%.3f MiB\t%s\n", c.Name, l.Name, l.Parameters, mib(l.Bytes), strings.Join(l.Tensors, ", "))
		}
	}
	return t.Flush()
}

func mib(n int64) float64 { return float64(n) / (1 << 20) }
