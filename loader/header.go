package loader

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"sort"
	"strings"
	"unicode/utf8"

	"github.com/euryale-ml/euryale/internal/badmodel"
	"github.com/euryale-ml/euryale/internal/dtype"
	"github.com/euryale-ml/euryale/internal/size"
	"github.com/euryale-ml/euryale/internal/stack"
	"github.com/euryale-ml/euryale/internal/strictjson"
)

// TensorInfo describes a stored tensor.
type TensorInfo struct {
	Name   string
	DType  dtype.Type // as ReadTensor gives it; dtype.Invalid if it does not
	Stored string     // the type in the file, as the format spells it
	Shape  []int
	Bytes  int64  // as ReadTensor gives it
	File   string // path inside the model
	begin  int64  // in the file
	in     diskFile
}

// stored is the number of bytes in the file.
func (t TensorInfo) stored() int64 {
	if t.Stored == "F64" {
		return 2 * t.Bytes
	}
	return t.Bytes
}

// storedBits is the closed list of element types of the format and their sizes.
var storedBits = map[string]uint64{
	"BOOL": 8, "F4": 4, "F6_E2M3": 6, "F6_E3M2": 6, "U8": 8, "I8": 8, "F8_E5M2": 8, "F8_E4M3": 8, "F8_E8M0": 8,
	"F8_E4M3FNUZ": 8, "F8_E5M2FNUZ": 8, "I16": 16, "U16": 16, "F16": 16, "BF16": 16, "I32": 32, "U32": 32, "F32": 32,
	"C64": 64, "F64": 64, "I64": 64, "U64": 64,
}

// supported are the element types that can be read. Tensors of other types may lie in a file, and are not.
var supported = map[string]dtype.Type{
	"F32": dtype.F32, "F16": dtype.F16, "BF16": dtype.BF16, "I32": dtype.I32, "I64": dtype.I64,
	"F64": dtype.F32, // as a model in float32 has it
}

// readHeader reads the header of a safetensors file (https://github.com/huggingface/safetensors#format) and
// checks all of it: the rules of the reference implementation, and no key twice, which that does not check.
func readHeader(f io.ReaderAt, length int64, name string, limits Limits) ([]TensorInfo, error) {
	bad := func(field, got, want string) error {
		return stack.With(&Error{File: name, Field: field, Got: got, Want: want})
	}
	var first [9]byte
	if length < 8 {
		return nil, bad("", fmt.Sprintf("%d bytes", length), "a safetensors file, of 8 bytes or more")
	}
	if n, err := readFull(f, first[:min(length, 9)], 0); err != nil {
		return nil, stack.With(&Error{File: name, Got: fmt.Sprintf("reading stopped at byte %d", n), Err: err})
	}
	n := binary.LittleEndian.Uint64(first[:])
	// The length may begin with the bytes that another format begins with, but then no header follows.
	if header := strings.IndexByte("{ \t\r\n", first[8]) >= 0 && n <= uint64(length-8); !header {
		if what := otherFormat(first[:]); what != "" {
			return nil, bad("", what, "a safetensors file")
		}
	}
	switch {
	case n > uint64(limits.Header):
		return nil, bad("header length", fmt.Sprint(n), atMost(limits.Header, "Header"))
	case int64(n) > length-8:
		return nil, bad("header length", fmt.Sprint(n), fmt.Sprintf("at most the %d bytes that follow", length-8))
	}
	raw := make([]byte, n)
	if k, err := readFull(f, raw, 8); err != nil {
		return nil, stack.With(&Error{File: name, Got: fmt.Sprintf("reading stopped at byte %d", 8+k), Err: err})
	}
	if !utf8.Valid(raw) {
		return nil, bad("header", "not UTF-8", "")
	}
	tensors, err := parseHeader(raw, limits)
	if err != nil {
		var e *Error
		if errors.As(err, &e) {
			e.File = name
			return nil, err
		}
		return nil, stack.With(&Error{File: name, Field: "header", Got: "not as the format says", Err: err})
	}
	if err := layOut(tensors, 8+int64(n), length, name); err != nil {
		return nil, err
	}
	return tensors, nil
}

// otherFormat recognises by its first bytes what people have in place of a safetensors file.
func otherFormat(first []byte) string {
	for _, f := range []struct{ magic, what string }{
		{lfsPointer, lfsHint},
		{"GGUF", "a GGUF file"},
		{"PK\x03\x04", "a zip archive, perhaps a pickled checkpoint; " + convert},
		{"\x80\x02", "a pickle; " + convert},
	} {
		if bytes.HasPrefix(first, []byte(f.magic)) {
			return f.what
		}
	}
	return ""
}

// A Git LFS pointer is what a clone without LFS has in place of a file (https://git-lfs.com, specification 1).
const (
	lfsPointer = "version "
	lfsHint    = "a Git LFS pointer; fetch the file itself with \"git lfs pull\""
)

// layOut checks that the tensors fill the data exactly, without holes or overlaps, and makes their offsets
// those of the file.
func layOut(tensors []TensorInfo, data, length int64, name string) error {
	sort.SliceStable(tensors, func(i, j int) bool {
		a, b := tensors[i], tensors[j]
		return a.begin < b.begin || a.begin == b.begin && a.stored() < b.stored()
	})
	at := int64(0)
	for i := range tensors {
		t := &tensors[i]
		if t.begin != at {
			return stack.With(&Error{File: name, Tensor: t.Name, Field: "data_offsets",
				Got: fmt.Sprintf("begins at %d", t.begin), Want: fmt.Sprint(at)})
		}
		end, ok := size.Of(at).Add(size.Of(t.stored())).Int()
		if !ok {
			return stack.With(&Error{File: name, Tensor: t.Name, Field: "data_offsets",
				Got: fmt.Sprintf("%d bytes at %d", t.stored(), at), Want: fmt.Sprintf("an end of at most %d", int64(size.Max))})
		}
		at = int64(end)
		t.begin += data
		t.File = name
	}
	if data+at != length {
		return stack.With(&Error{File: name, Got: fmt.Sprintf("%d bytes", length),
			Want: fmt.Sprintf("%d as the header says", data+at)})
	}
	return nil
}

func parseHeader(raw []byte, limits Limits) ([]TensorInfo, error) {
	var tensors []TensorInfo
	d := strictjson.New(raw, limits.Nesting)
	err := d.Object(func(key string) error {
		if key == "__metadata__" {
			return metadata(d, limits)
		}
		switch {
		case len(key) > limits.Name:
			return stack.With(&Error{Tensor: key, Got: fmt.Sprintf("a name of %d bytes", len(key)),
				Want: atMost(limits.Name, "Name")})
		case len(tensors) == limits.Tensors:
			return stack.With(&Error{Field: "header", Got: "more tensors", Want: atMost(limits.Tensors, "Tensors")})
		}
		t, err := entry(d, limits)
		if err != nil {
			return stack.With(&Error{Tensor: key, Got: "entry is not as the format says", Err: err})
		}
		t.Name = key
		tensors = append(tensors, t)
		return nil
	})
	if err != nil {
		return nil, err
	}
	return tensors, d.End()
}

func metadata(d strictjson.Decoder, limits Limits) error {
	total := 0
	return d.Object(func(key string) error {
		v, err := d.String()
		if total += len(key) + len(v); err == nil && total > limits.Metadata {
			err = fmt.Errorf("more bytes, want %s", atMost(limits.Metadata, "Metadata"))
		}
		if err != nil {
			return stack.With(&Error{Field: "__metadata__", Got: "not as the format says", Err: err})
		}
		return nil
	})
}

// entry reads one tensor's description. Unknown fields are allowed.
func entry(d strictjson.Decoder, limits Limits) (t TensorInfo, err error) {
	var stored string
	var shape, offsets []uint64
	err = d.Object(func(key string) (err error) {
		switch key {
		case "dtype":
			stored, err = d.String()
		case "shape":
			shape, err = d.Numbers(limits.Rank, ", the limit Rank")
		case "data_offsets":
			offsets, err = d.Numbers(2, "")
		default:
			return d.Skip()
		}
		if err != nil {
			return stack.With(fmt.Errorf("%s: %w", key, err))
		}
		return nil
	})
	if err != nil {
		return t, err
	}
	width, known := storedBits[stored]
	switch {
	case !known:
		return t, stack.With(fmt.Errorf("dtype %s is not one of the format's", badmodel.Quote(stored)))
	case shape == nil:
		return t, stack.With(errors.New("shape is missing"))
	case len(offsets) != 2 || offsets[1] < offsets[0] || offsets[1] > size.Max:
		return t, stack.With(fmt.Errorf("data_offsets %v, want begin and end, at most %d", offsets, int64(size.Max)))
	}
	bytes, ok := size.Product(shape...).Mul(size.Of(width)).Bytes().Int()
	switch {
	case !ok:
		return t, stack.With(fmt.Errorf("shape %v of %s is too large, or not whole bytes", shape, stored))
	case int64(bytes) > limits.TensorBytes:
		return t, stack.With(fmt.Errorf("%d bytes, want %s", bytes, atMost(limits.TensorBytes, "TensorBytes")))
	case uint64(bytes) != offsets[1]-offsets[0]:
		return t, stack.With(fmt.Errorf("%s %v takes %d bytes, data_offsets %v", stored, shape, bytes, offsets))
	}
	for _, n := range shape {
		t.Shape = append(t.Shape, int(n)) // below size.Max and, but for tensors of no elements, below bytes
	}
	t.DType, t.Stored = supported[stored], stored
	t.Bytes, t.begin = int64(bytes), int64(offsets[0])
	if stored == "F64" {
		t.Bytes /= 2
	}
	return t, nil
}
