package loader

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"math/bits"
	"sort"
	"strconv"
	"unicode/utf8"

	"github.com/euryale-ml/euryale/internal/badmodel"
	"github.com/euryale-ml/euryale/internal/dtype"
)

// Limits on one safetensors file. The format allows more; no model comes near.
const (
	maxHeader   = 16 << 20
	maxTensors  = 1 << 16
	maxName     = 512
	maxRank     = 8
	maxDim      = 1<<48 - 1
	maxMetadata = 1 << 20
)

// TensorInfo describes a stored tensor.
type TensorInfo struct {
	Name  string
	DType dtype.Type
	Shape []int
	Bytes int64
	File  string // path inside the model
	begin int64  // in the file
	in    diskFile
}

// storedBits is the closed list of element types of the format and their sizes.
var storedBits = map[string]uint64{
	"BOOL": 8, "F4": 4, "F6_E2M3": 6, "F6_E3M2": 6, "U8": 8, "I8": 8, "F8_E5M2": 8, "F8_E4M3": 8, "F8_E8M0": 8,
	"F8_E4M3FNUZ": 8, "F8_E5M2FNUZ": 8, "I16": 16, "U16": 16, "F16": 16, "BF16": 16, "I32": 32, "U32": 32, "F32": 32,
	"C64": 64, "F64": 64, "I64": 64, "U64": 64,
}

// supported are the element types that can be read.
var supported = map[string]dtype.Type{
	"F32": dtype.F32, "F16": dtype.F16, "BF16": dtype.BF16, "I32": dtype.I32, "I64": dtype.I64,
}

// readHeader reads the header of a safetensors file (https://github.com/huggingface/safetensors#format) and
// checks all of it: the rules of the reference implementation, and no key twice, which that does not check.
func readHeader(f io.ReaderAt, size int64, name string) ([]TensorInfo, error) {
	bad := func(field, got, want string) error { return &Error{File: name, Field: field, Got: got, Want: want} }
	var first [8]byte
	if size < int64(len(first)) {
		return nil, bad("", fmt.Sprintf("%d bytes", size), "a safetensors file, of 8 bytes or more")
	}
	if n, err := f.ReadAt(first[:], 0); n < len(first) {
		return nil, &Error{File: name, Got: "cannot be read", Err: unexpected(err)}
	}
	if what := otherFormat(first[:]); what != "" {
		return nil, bad("", what, "a safetensors file")
	}
	n := binary.LittleEndian.Uint64(first[:])
	switch {
	case n > maxHeader:
		return nil, bad("header length", fmt.Sprint(n), fmt.Sprintf("at most %d", maxHeader))
	case int64(n) > size-8:
		return nil, bad("header length", fmt.Sprint(n), fmt.Sprintf("at most the %d bytes that follow", size-8))
	}
	raw := make([]byte, n)
	if k, err := f.ReadAt(raw, 8); k < len(raw) {
		return nil, &Error{File: name, Got: fmt.Sprintf("reading stopped at byte %d", 8+k), Err: unexpected(err)}
	}
	if !utf8.Valid(raw) {
		return nil, bad("header", "not UTF-8", "")
	}
	tensors, err := parseHeader(raw)
	if err != nil {
		var e *Error
		if errors.As(err, &e) {
			e.File = name
			return nil, e
		}
		return nil, &Error{File: name, Field: "header", Got: "not as the format says", Err: err}
	}
	if err := layOut(tensors, 8+int64(n), size, name); err != nil {
		return nil, err
	}
	return tensors, nil
}

// otherFormat recognises by its first bytes what people have in place of a safetensors file.
func otherFormat(first []byte) string {
	for _, f := range []struct{ magic, what string }{
		{"version ", "a Git LFS pointer; fetch the file itself with \"git lfs pull\""},
		{"GGUF", "a GGUF file"},
		{"PK\x03\x04", "a zip archive, perhaps a pickled checkpoint; convert it with diffusers: save_pretrained(folder, safe_serialization=True)"},
		{"\x80\x02", "a pickle; convert it with diffusers: save_pretrained(folder, safe_serialization=True)"},
	} {
		if bytes.HasPrefix(first, []byte(f.magic)) {
			return f.what
		}
	}
	return ""
}

// layOut checks that the tensors fill the data exactly, without holes or overlaps, and makes their offsets
// those of the file.
func layOut(tensors []TensorInfo, data, size int64, name string) error {
	sort.SliceStable(tensors, func(i, j int) bool {
		a, b := tensors[i], tensors[j]
		return a.begin < b.begin || a.begin == b.begin && a.Bytes < b.Bytes
	})
	at := int64(0)
	for i := range tensors {
		t := &tensors[i]
		if t.begin != at {
			return &Error{File: name, Tensor: t.Name, Field: "data_offsets", Got: fmt.Sprintf("begins at %d", t.begin), Want: fmt.Sprint(at)}
		}
		at += t.Bytes // offsets are below 2^48 and there are 2^16 of them
		t.begin += data
		t.File = name
	}
	if data+at != size {
		return &Error{File: name, Got: fmt.Sprintf("%d bytes", size), Want: fmt.Sprintf("%d as the header says", data+at)}
	}
	return nil
}

// decoder reads JSON token by token: encoding/json by itself takes keys twice, in any case, and arrays of any
// length.
type decoder struct{ *json.Decoder }

func newDecoder(raw []byte) decoder {
	d := json.NewDecoder(bytes.NewReader(raw))
	d.UseNumber()
	return decoder{d}
}

// object calls field for each key; it must read the value.
func (d decoder) object(field func(key string) error) error {
	if err := d.delim('{'); err != nil {
		return err
	}
	seen := map[string]bool{}
	for d.More() {
		t, err := d.Token()
		if err != nil {
			return err
		}
		key := t.(string) // the syntax allows nothing else here
		if seen[key] {
			return fmt.Errorf("key %s comes twice", badmodel.Quote(key))
		}
		seen[key] = true
		if err := field(key); err != nil {
			return err
		}
	}
	return d.delim('}')
}

func (d decoder) delim(want json.Delim) error {
	t, err := d.Token()
	if err != nil {
		return err
	}
	if t != want {
		return fmt.Errorf("found %v, want %v", badmodel.Quote(fmt.Sprint(t)), want)
	}
	return nil
}

func (d decoder) string() (string, error) {
	t, err := d.Token()
	if err != nil {
		return "", err
	}
	s, ok := t.(string)
	if !ok {
		return "", fmt.Errorf("found %s, want a string", badmodel.Quote(fmt.Sprint(t)))
	}
	return s, nil
}

// numbers reads an array of at most limit whole numbers from 0 on.
func (d decoder) numbers(limit int) ([]uint64, error) {
	if err := d.delim('['); err != nil {
		return nil, err
	}
	list := []uint64{}
	for d.More() {
		t, err := d.Token()
		if err != nil {
			return nil, err
		}
		text, ok := t.(json.Number)
		n, err := strconv.ParseUint(string(text), 10, 64)
		if !ok || err != nil {
			return nil, fmt.Errorf("found %s, want a whole number", badmodel.Quote(fmt.Sprint(t)))
		}
		if len(list) == limit {
			return nil, fmt.Errorf("more than %d numbers", limit)
		}
		list = append(list, n)
	}
	return list, d.delim(']')
}

// skip reads over any value.
func (d decoder) skip() error {
	depth := 0
	for {
		t, err := d.Token()
		if err != nil {
			return err
		}
		switch t {
		case json.Delim('{'), json.Delim('['):
			depth++
		case json.Delim('}'), json.Delim(']'):
			depth--
		}
		if depth > maxNesting {
			return fmt.Errorf("nested more than %d deep", maxNesting)
		}
		if depth == 0 {
			return nil
		}
	}
}

// end makes sure that only white space follows.
func (d decoder) end() error {
	if t, err := d.Token(); err != io.EOF {
		return fmt.Errorf("%s after the end", badmodel.Quote(fmt.Sprint(t)))
	}
	return nil
}

func parseHeader(raw []byte) ([]TensorInfo, error) {
	var tensors []TensorInfo
	d := newDecoder(raw)
	err := d.object(func(key string) error {
		if key == "__metadata__" {
			return metadata(d)
		}
		switch {
		case len(key) > maxName:
			return &Error{Tensor: key, Got: fmt.Sprintf("a name of %d bytes", len(key)), Want: fmt.Sprintf("at most %d", maxName)}
		case len(tensors) == maxTensors:
			return &Error{Field: "header", Got: "more tensors", Want: fmt.Sprintf("at most %d", maxTensors)}
		}
		t, err := entry(d)
		if err != nil {
			return &Error{Tensor: key, Got: "entry is not as the format says", Err: err}
		}
		t.Name = key
		tensors = append(tensors, t)
		return nil
	})
	if err != nil {
		return nil, err
	}
	return tensors, d.end()
}

func metadata(d decoder) error {
	total := 0
	return d.object(func(key string) error {
		v, err := d.string()
		if total += len(key) + len(v); err == nil && total > maxMetadata {
			err = fmt.Errorf("more than %d bytes", maxMetadata)
		}
		if err != nil {
			return &Error{Field: "__metadata__", Got: "not as the format says", Err: err}
		}
		return nil
	})
}

// entry reads one tensor's description. Unknown fields are allowed.
func entry(d decoder) (t TensorInfo, err error) {
	var stored string
	var shape, offsets []uint64
	err = d.object(func(key string) (err error) {
		switch key {
		case "dtype":
			stored, err = d.string()
		case "shape":
			shape, err = d.numbers(maxRank)
		case "data_offsets":
			offsets, err = d.numbers(2)
		default:
			return d.skip()
		}
		if err != nil {
			return fmt.Errorf("%s: %w", key, err)
		}
		return nil
	})
	if err != nil {
		return t, err
	}
	width, known := storedBits[stored]
	switch {
	case !known:
		return t, fmt.Errorf("dtype %s is not one of the format's", badmodel.Quote(stored))
	case shape == nil:
		return t, errors.New("shape is missing")
	case len(offsets) != 2 || offsets[1] < offsets[0] || offsets[1] > maxDim:
		return t, fmt.Errorf("data_offsets %v, want begin and end, at most %d", offsets, int64(maxDim))
	case supported[stored] == dtype.Invalid:
		return t, fmt.Errorf("stored as %s, want F32, F16 or BF16", stored)
	}
	size, ok := tensorBits(width, shape)
	if !ok {
		return t, fmt.Errorf("shape %v is too large", shape)
	}
	for _, n := range shape {
		t.Shape = append(t.Shape, int(n))
	}
	if size%8 != 0 || size/8 != offsets[1]-offsets[0] {
		return t, fmt.Errorf("%s %v takes %d bits, data_offsets %v", stored, shape, size, offsets)
	}
	t.DType, t.Bytes, t.begin = supported[stored], int64(size/8), int64(offsets[0])
	return t, nil
}

// tensorBits is the size of a tensor of elements of width bits, or false if it overflows or a dimension is more
// than any file has.
func tensorBits(width uint64, shape []uint64) (uint64, bool) {
	size := width
	for _, n := range shape {
		over, low := bits.Mul64(size, n)
		if over != 0 || n > min(maxDim, math.MaxInt) {
			return 0, false
		}
		size = low
	}
	return size, true
}
