package program

import (
	"reflect"
	"unsafe"

	G "gorgonia.org/gorgonia"
)

// ReadNode looks into a node that gorgonia.Read made: a statement that holds the address to write to in an
// unexported field.
func ReadNode(n *G.Node) (into *G.Value, child *G.Node, ok bool) {
	op := reflect.ValueOf(n.Op())
	if op.Kind() != reflect.Struct || op.Type().String() != "gorgonia.readOp" {
		return nil, nil, false
	}
	it := n.Graph().From(n.ID())
	if !it.Next() {
		return nil, nil, false
	}
	return (*G.Value)(unsafe.Pointer(op.Field(0).Pointer())), it.Node().(*G.Node), true
}
