// Package hostile makes model folders that must be refused, numbered as in the list of bad inputs that the project
// follows. It is for tests.
package hostile

import (
	"encoding/binary"
	"fmt"
	"strings"
)

// Container is a safetensors file with a header and n bytes of data.
func Container(header string, n int) []byte {
	raw := binary.LittleEndian.AppendUint64(nil, uint64(len(header)))
	return append(append(raw, header...), make([]byte, n)...)
}

func withLength(n uint64, rest string) []byte {
	return append(binary.LittleEndian.AppendUint64(nil, n), rest...)
}

// OneTensor is the header of a file with one tensor, of 8 bytes.
const OneTensor = `{"w":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}`

// Containers are files that must be refused, numbered as in the list of bad inputs this follows; want is a
// part of the message.
var Containers = []struct {
	Name, Want string
	Raw        []byte
}{
	{"1 empty", "0 bytes", nil},
	{"2 seven bytes", "7 bytes", make([]byte, 7)},
	{"3 no header", "header", withLength(0, "")},
	{"4 length 2^64-1", "header length", withLength(1<<64-1, "{}")},
	{"5 length 2^63", "header length", withLength(1<<63, "{}")},
	{"6 length over the limit", "header length", withLength(100_000_001, "{}")},
	{"7 length past the end", "header length", withLength(1000, "{}")},
	{"8 cut in the header", "header length", Container(OneTensor, 8)[:40]},
	{"9 cut in the data", "as the header says", Container(OneTensor, 7)},
	{"10 one byte more", "as the header says", Container(OneTensor, 9)},
	{"11 a zip archive behind", "as the header says", append(Container(OneTensor, 8), "PK\x03\x04"...)},
	{"12 a Git LFS pointer", "Git LFS", []byte("version https://git-lfs.github.com/spec/v1\noid sha256:1\nsize 1\n")},
	{"13 a zip archive", "zip archive", []byte("PK\x03\x04abcdefgh")},
	{"13 a pickle", "pickle", []byte("\x80\x02}q\x00.abcdefgh")},
	{"14 GGUF", "GGUF", []byte("GGUF\x03\x00\x00\x00\x00\x00")},
	{"15 not UTF-8", "UTF-8", Container("{\"\xff\":1}", 0)},
	{"16 a byte order mark", "header", Container("\ufeff"+OneTensor, 8)},
	{"17 an array", "want {", Container("[]", 0)},
	{"17 null", "want {", Container("null", 0)},
	{"17 a string", "want {", Container(`"x"`, 0)},
	{"17 a number", "want {", Container("1", 0)},
	{"18 NUL behind", "header", Container(OneTensor+"\x00", 8)},
	{"18 a second value", "after the end", Container(OneTensor+"{}", 8)},
	{"19 nested", "nested", Container(`{"w":{"x":`+strings.Repeat("[", 10001)+strings.Repeat("]", 10001)+`}}`, 0)},
	{"19 nested deeper", "nested", Container(`{"w":{"x":`+strings.Repeat("[", 1_000_000), 0)},
	{"20 a tensor twice", "comes twice", Container(`{"w":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},"w":{"dtype":"F16","shape":[4],"data_offsets":[0,8]}}`, 8)},
	{"21 metadata twice", "comes twice", Container(`{"__metadata__":{},"__metadata__":{}}`, 0)},
	{"22 dtype twice", "comes twice", Container(`{"w":{"dtype":"F32","dtype":"F32","shape":[2],"data_offsets":[0,8]}}`, 8)},
	{"23 dtype in capitals", "dtype", Container(`{"w":{"DTYPE":"F32","shape":[2],"data_offsets":[0,8]}}`, 8)},
	{"24 an unknown dtype", "F33", Container(`{"w":{"dtype":"F33","shape":[2],"data_offsets":[0,8]}}`, 8)},
	{"26 no shape", "shape is missing", Container(`{"w":{"dtype":"F32","data_offsets":[0,8]}}`, 8)},
	{"26 no offsets", "data_offsets", Container(`{"w":{"dtype":"F32","shape":[2]}}`, 8)},
	{"26 no dtype", "dtype", Container(`{"w":{"shape":[2],"data_offsets":[0,8]}}`, 8)},
	{"27 null", "want {", Container(`{"w":null}`, 0)},
	{"27 a string", "want {", Container(`{"w":"F32"}`, 0)},
	{"28 no offset", "data_offsets", Container(`{"w":{"dtype":"F32","shape":[2],"data_offsets":[]}}`, 8)},
	{"28 one offset", "data_offsets", Container(`{"w":{"dtype":"F32","shape":[2],"data_offsets":[0]}}`, 8)},
	{"28 three offsets", "data_offsets", Container(`{"w":{"dtype":"F32","shape":[2],"data_offsets":[0,8,8]}}`, 8)},
	{"29 a negative offset", "whole number", Container(`{"w":{"dtype":"F32","shape":[2],"data_offsets":[-8,0]}}`, 8)},
	{"30 a fraction", "whole number", Container(`{"w":{"dtype":"F32","shape":[2],"data_offsets":[0,8.5]}}`, 8)},
	{"30 an exponent", "whole number", Container(`{"w":{"dtype":"F32","shape":[2],"data_offsets":[0,8e0]}}`, 8)},
	{"30 a string", "whole number", Container(`{"w":{"dtype":"F32","shape":[2],"data_offsets":[0,"8"]}}`, 8)},
	{"31 begin past end", "data_offsets", Container(`{"w":{"dtype":"F32","shape":[2],"data_offsets":[8,0]}}`, 8)},
	{"32 a hole", "begins at 12", Container(`{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},"b":{"dtype":"F32","shape":[2],"data_offsets":[12,20]}}`, 20)},
	{"33 an overlap", "begins at 4", Container(`{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},"b":{"dtype":"F32","shape":[2],"data_offsets":[4,12]}}`, 12)},
	{"33 one range many times", "begins at 0", Container(sameRange(60000), 8)},
	{"34 the first not at 0", "begins at 8", Container(`{"w":{"dtype":"F32","shape":[2],"data_offsets":[8,16]}}`, 16)},
	{"35 size and shape differ", "takes 12 bytes", Container(`{"w":{"dtype":"F32","shape":[3],"data_offsets":[0,8]}}`, 8)},
	{"36 the product overflows", "too large", Container(`{"w":{"dtype":"F32","shape":[2,18446744073709551615],"data_offsets":[0,8]}}`, 8)},
	{"36 the bytes overflow", "too large", Container(`{"w":{"dtype":"F32","shape":[2,9223372036854775807],"data_offsets":[0,8]}}`, 8)},
	{"37 wraps to a small number", "too large", Container(`{"w":{"dtype":"F32","shape":[4294967296,4294967296],"data_offsets":[0,0]}}`, 0)},
	{"38 offsets near 2^64", "data_offsets", Container(hugeTensors(), 0)},
	{"39 alignment overflows", "data_offsets", Container(`{"w":{"dtype":"F32","shape":[4611686018427387900],"data_offsets":[0,18446744073709551600]}}`, 0)},
	{"40 a shape of very many numbers", "at most 8, the limit Rank", Container(`{"w":{"dtype":"F32","shape":[`+strings.Repeat("1,", 1<<20)+`1],"data_offsets":[0,4]}}`, 4)},
	{"41 very many tensors", "more tensors", Container(sameRange(1<<16+1), 8)},
	{"42 a long name", "a name of", Container(`{"`+strings.Repeat("n", 1<<20)+`":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}`, 8)},
	{"43 metadata that is no string", "__metadata__", Container(`{"__metadata__":{"a":1}}`, 0)},
	{"43 metadata that is large", "__metadata__", Container(`{"__metadata__":{"a":"`+strings.Repeat("m", 2<<20)+`"}}`, 0)},
	{"44 not whole bytes", "not whole bytes", Container(`{"w":{"dtype":"F6_E2M3","shape":[3],"data_offsets":[0,2]}}`, 2)},
}

func sameRange(n int) string {
	var b strings.Builder
	b.WriteByte('{')
	for i := range n {
		fmt.Fprintf(&b, `%q:{"dtype":"U8","shape":[8],"data_offsets":[0,8]},`, fmt.Sprint("t", i))
	}
	return strings.ReplaceAll(strings.TrimSuffix(b.String(), ",")+"}", `"U8","shape":[8]`, `"F32","shape":[2]`)
}

func hugeTensors() string {
	var b strings.Builder
	for i := range uint64(8) {
		n := uint64(1<<61 - 1)
		fmt.Fprintf(&b, `,"t%d":{"dtype":"U8","shape":[%d],"data_offsets":[%d,%d]}`, i, n, i*n, (i+1)*n)
	}
	return "{" + b.String()[1:] + "}"
}
