package textenc

import (
	"encoding/binary"
	"encoding/json"
	"hash/crc32"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/euryale-ml/euryale/internal/bounded"
)

// corpus is testdata/hostile.json: what strings are made of, and the folders that make_hostile.py asks the references
// about.
type corpus struct {
	Pieces  [][]string
	Blocks  [][2]rune
	Alike   [][2]rune // each 16th of these is compared
	Folders map[string][2]json.RawMessage
	LeftOut map[string][]string `json:"left_out"`
}

func readCorpus(t testing.TB) (c corpus) {
	t.Helper()
	raw, err := os.ReadFile("testdata/hostile.json")
	if err == nil {
		err = json.Unmarshal(raw, &c)
	}
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// tokenizer opens a folder of the corpus, filling in the published vocabulary.
func (c corpus) tokenizer(t testing.TB, name string) *Tokenizer {
	t.Helper()
	f := published(t)
	var files map[string]json.RawMessage
	if err := json.Unmarshal(c.Folders[name][1], &files); err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(c.Folders[name][0], &f.Class); err != nil {
		t.Fatal(err)
	}
	f.TokenizerConfig, f.SpecialTokens, f.AddedTokens = files["tokenizer_config.json"], files["special_tokens_map.json"],
		files["added_tokens.json"]
	if raw := files["tokenizer.json"]; raw != nil {
		f.TokenizerJSON = filled(t, raw, f)
	}
	for _, file := range c.LeftOut[name] {
		*map[string]*[]byte{"vocab.json": &f.Vocab, "merges.txt": &f.Merges}[file] = nil
	}
	tok, err := NewTokenizer(f)
	if err != nil {
		t.Fatal(name, err)
	}
	return tok
}

// filled puts a vocabulary and merges into a tokenizer.json that has none.
func filled(t testing.TB, raw []byte, f TokenizerFiles) []byte {
	t.Helper()
	var list []string
	for line := range strings.Lines(string(f.Merges)) {
		if !strings.HasPrefix(line, "#version") {
			list = append(list, strings.TrimSpace(line))
		}
	}
	merges, err := json.Marshal(list)
	if err != nil {
		t.Fatal(err)
	}
	s := strings.Replace(string(raw), `"vocab": {}`, `"vocab": `+string(f.Vocab), 1)
	return []byte(strings.Replace(s, `"merges": []`, `"merges": `+string(merges), 1))
}

// random is splitmix64.
type random uint64

func (r *random) below(n int) int {
	*r += 0x9e3779b97f4a7c15
	z := uint64(*r)
	z = (z ^ z>>30) * 0xbf58476d1ce4e5b9
	z = (z ^ z>>27) * 0x94d049bb133111eb
	return int((z ^ z>>31) % uint64(n))
}

// strings makes the strings that make_hostile.py makes.
func (c corpus) strings(n int, seed uint64) []string {
	r := random(seed)
	character := func(c rune) string {
		if 0xd800 <= c && c < 0xe000 {
			return "a"
		}
		return string(c)
	}
	list := make([]string, n)
	for i := range list {
		var b strings.Builder
		most := 24
		if r.below(50) == 0 {
			most = 200
		}
		for range r.below(most) {
			switch kind := r.below(4 + 2*len(c.Pieces)); {
			case kind == 0:
				b.WriteString(character(rune(r.below(0x110000))))
			case kind == 1:
				b.WriteString(character(rune(r.below(0x10000))))
			case kind < 4:
				block := c.Blocks[r.below(len(c.Blocks))]
				b.WriteString(character(block[0] + rune(r.below(int(block[1]-block[0])+1))))
			default:
				pieces := c.Pieces[(kind-4)/2]
				b.WriteString(pieces[r.below(len(pieces))])
			}
		}
		list[i] = b.String()
	}
	return list
}

func readSums(t testing.TB, file string) (sums []uint32) {
	t.Helper()
	raw, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	for len(raw) > 0 {
		sums = append(sums, binary.LittleEndian.Uint32(raw))
		raw = raw[4:]
	}
	return sums
}

func addSum(sum uint32, ids []int32) uint32 {
	raw := make([]byte, 0, 4*len(ids))
	for _, id := range ids {
		raw = binary.LittleEndian.AppendUint32(raw, uint32(id))
	}
	return crc32.Update(sum, crc32.IEEETable, raw)
}

// The ids of 10,000 strings, in folders of every layout, are those of the reference that each follows.
func TestHostileStrings(t *testing.T) {
	compareStrings(t, "testdata/crc", 10_000, 12)
}

// TestHostileRun compares more strings than the repository keeps ids of: those that make_hostile.py has put into the
// folder EURYALE_TOKEN_RUN, whose name ends with their number and the seed, as in run-100000-7.
func TestHostileRun(t *testing.T) {
	dir := os.Getenv("EURYALE_TOKEN_RUN")
	if dir == "" {
		t.Skip("EURYALE_TOKEN_RUN names no folder that make_hostile.py has written")
	}
	parts := strings.Split(filepath.Base(dir), "-")
	if len(parts) != 3 {
		t.Fatalf("EURYALE_TOKEN_RUN is %q, want run-number-seed", dir)
	}
	n, err1 := strconv.Atoi(parts[1])
	seed, err2 := strconv.ParseUint(parts[2], 10, 64)
	if err1 != nil || err2 != nil {
		t.Fatal(err1, err2)
	}
	compareStrings(t, dir, n, seed)
}

func compareStrings(t *testing.T, dir string, n int, seed uint64) {
	c := readCorpus(t)
	list := c.strings(n, seed)
	if len(c.Folders) < 8 {
		t.Fatalf("%d folders", len(c.Folders))
	}
	for name := range c.Folders {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			tok, sums := c.tokenizer(t, name), readSums(t, filepath.Join(dir, name+".bin"))
			if len(sums) != n {
				t.Fatalf("%d sums for %d strings", len(sums), n)
			}
			wrong := 0
			for i, s := range list {
				enc, err := tok.Encode(s)
				if err != nil {
					t.Fatalf("%q: %v", s, err)
				}
				if addSum(0, enc.IDs) != sums[i] {
					if wrong++; wrong <= 5 {
						t.Errorf("string %d, %+q: got %v, which is not what transformers gives", i, s, enc.IDs)
					}
				}
			}
			t.Logf("%d strings, %d differ", n, wrong)
			if wrong > 0 {
				t.Errorf("%d of %d strings differ", wrong, n)
			}
		})
	}
}

// Each character is dropped, composed, put into lower case and counted among letters, numbers, spaces or the rest as
// the references do it. Where loops take samples, every eighth block is compared, from another one on for each folder.
func TestEveryCharacter(t *testing.T) {
	c := readCorpus(t)
	for first, name := range []string{"sd1", "fast_json", "alone"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			tok, sums := c.tokenizer(t, name), readSums(t, filepath.Join("testdata", "crc", name+"_characters.bin"))
			if len(sums) != 0x1100 {
				t.Fatalf("%d sums", len(sums))
			}
			var wrong []string
			step := bounded.Some(1, 8)
			for i := first % step; i < len(sums); i += step {
				if c.sumOfBlock(t, tok, rune(256*i)) != sums[i] {
					wrong = append(wrong, strconv.FormatInt(int64(256*i), 16))
				}
			}
			if len(wrong) > 0 {
				some := strings.Join(wrong[:min(len(wrong), 10)], ", U+")
				t.Errorf("%d blocks of 256 characters differ: U+%s", len(wrong), some)
			}
		})
	}
}

// sumOfBlock goes over the characters of a block that make_hostile.py goes over.
func (c corpus) sumOfBlock(t *testing.T, tok *Tokenizer, first rune) (sum uint32) {
	step := rune(1)
	if slices.ContainsFunc(c.Alike, func(r [2]rune) bool { return r[0] <= first && first <= r[1] }) {
		step = 16
	}
	for c := first; c < first+256; c += step {
		if 0xd800 <= c && c < 0xe000 {
			continue
		}
		s := strings.ReplaceAll("@Σ A@Σ AΣ@b '@ 1@@! q\u0323@\u0327 e@\u0301", "@", string(c))
		enc, err := tok.Encode(s)
		if err != nil {
			t.Errorf("%q: %v", s, err)
		}
		sum = addSum(sum, enc.IDs)
	}
	return sum
}
