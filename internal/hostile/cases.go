package hostile

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"strings"
)

// A Case spoils a good model folder.
type Case struct {
	Name  string   // begins with its number
	Want  []string // are in the message: the file, what in it, what is wrong
	Runs  bool     // it opens; making a picture ends with graphs.ErrNonFinite
	Spoil func(dir string) error
}

// Number is that of the list.
func (c Case) Number() (n int) {
	fmt.Sscan(c.Name, &n)
	return n
}

const (
	unetWeights = "unet/diffusion_pytorch_model.safetensors"
	vaeWeights  = "vae/diffusion_pytorch_model.safetensors"
	textWeights = "text_encoder/model.safetensors"
	textIndex   = "text_encoder/model.safetensors.index.json"
	modelIndex  = "model_index.json"
	unetConfig  = "unet/config.json"
	textConfig  = "text_encoder/config.json"
	vaeConfig   = "vae/config.json"
	scheduler   = "scheduler/scheduler_config.json"
	vocab       = "tokenizer/vocab.json"
	merges      = "tokenizer/merges.txt"
)

// Cases are all of the list. Prompts, which are no files, are the package textenc's own.
func Cases() (all []Case) {
	for _, c := range Containers {
		all = append(all, Case{c.Name, []string{unetWeights, c.Want}, false, write(unetWeights, c.Raw)})
	}
	for _, cases := range [][]Case{largeHeaders, indexes, shards(), files, configs, tokenizers, values} {
		all = append(all, cases...)
	}
	return all
}

// largeHeaders claim, and have, more than a header may, or what only a folder shows.
var largeHeaders = []Case{
	{"20 the same in a folder whose other files are good", []string{vaeWeights, "comes twice"}, false,
		write(vaeWeights, Container(`{"w":{"dtype":"F16","shape":[2],"data_offsets":[0,4]},"w":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}`, 4))},
	{"25 a dtype that is not read", []string{unetWeights, "conv_in.weight", "stored as F4"}, false,
		write(unetWeights, Container(`{"conv_in.weight":{"dtype":"F4","shape":[2],"data_offsets":[0,1]}}`, 1))},
	{"25 complex numbers", []string{unetWeights, "conv_in.weight", "stored as C64"}, false,
		write(unetWeights, Container(`{"conv_in.weight":{"dtype":"C64","shape":[1],"data_offsets":[0,8]}}`, 8))},
	{"40 a shape of fifty million numbers", []string{unetWeights, "header length", "the limit Header"}, false,
		func(dir string) error {
			return write(unetWeights, Container(`{"w":{"dtype":"F32","shape":[`+strings.Repeat("1,", 45_000_000)+`1],"data_offsets":[0,4]}}`, 4))(dir)
		}},
	{"41 1.7 million tensors of no elements", []string{unetWeights, "header length", "the limit Header"}, false, func(dir string) error {
		var b strings.Builder
		for i := range 1_700_000 {
			fmt.Fprintf(&b, `,"%d":{"dtype":"F32","shape":[0],"data_offsets":[0,0]}`, i)
		}
		return write(unetWeights, Container("{"+b.String()[1:]+"}", 0))(dir)
	}},
	{"42 a name of ten million bytes", []string{unetWeights, "a name of 10000000 bytes", "the limit Name"}, false, func(dir string) error {
		return write(unetWeights, Container(`{"`+strings.Repeat("n", 10_000_000)+`":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}`, 8))(dir)
	}},
	{"42 a name that would clear the screen", []string{unetWeights, `a\x00\n\x1b[2J`, "dtype F33"}, false,
		write(unetWeights, Container(`{"a\u0000\n\u001b[2J":{"dtype":"F33","shape":[2],"data_offsets":[0,8]}}`, 8))},
	{"42 no name", []string{unetWeights, "dtype F33"}, false, write(unetWeights, Container(`{"":{"dtype":"F33","shape":[2],"data_offsets":[0,8]}}`, 8))},
	{"43 metadata of 90 MB", []string{unetWeights, "header length", "the limit Header"}, false, func(dir string) error {
		return write(unetWeights, Container(`{"__metadata__":{"a":"`+strings.Repeat("m", 90_000_000)+`"}}`, 0))(dir)
	}},
}

var indexes = []Case{
	{"45 no index", []string{modelIndex, "missing"}, false, remove(modelIndex)},
	{"45 the index is not JSON", []string{modelIndex, "not JSON"}, false, write(modelIndex, []byte("{"))},
	{"45 the index is an array", []string{modelIndex, "not a JSON object"}, false, write(modelIndex, []byte("[]"))},
	{"45 the index has no class", []string{modelIndex, "_class_name"}, false, write(modelIndex, []byte("{}"))},
	{"45 an unknown pipeline", []string{modelIndex, "_class_name", "FluxPipeline"}, false, set(modelIndex, "_class_name", `"FluxPipeline"`)},
	{"45 an unknown class", []string{modelIndex, "unet", "UNet3D"}, false, set(modelIndex, "unet", `["diffusers", "UNet3D"]`)},
	{"45 a class of another library", []string{modelIndex, "unet", "a class of os"}, false, set(modelIndex, "unet", `["os", "UNet2DConditionModel"]`)},
	{"45 a component is a path", []string{modelIndex, "not a folder's name"}, false, set(modelIndex, "../x", `["diffusers", "x"]`)},
}

// shards are indexes of the text encoder's weights, whose shards are outside/decoy.safetensors or beside them.
func shards() (cases []Case) {
	weightMap := func(m string) func(dir string) error {
		return func(dir string) error {
			return errors.Join(remove(textWeights)(dir), write(textIndex, []byte(`{"metadata": {"total_size": 1}, "weight_map": `+m+`}`))(dir),
				write("text_encoder/a.safetensors", Container(OneTensor, 8))(dir), write("text_encoder/b.safetensors", Container(OneTensor, 8))(dir))
		}
	}
	add := func(name, m string, want ...string) {
		cases = append(cases, Case{name, append([]string{"text_encoder/"}, want...), false, weightMap(m)})
	}
	add("46 a shard elsewhere", `{"w": "../../outside/decoy.safetensors"}`, "weight_map", "outside/decoy.safetensors")
	cases = append(cases, Case{"47 a shard at an absolute path", []string{textIndex, "weight_map"}, false, func(dir string) error {
		decoy, _ := json.Marshal(filepath.Join(filepath.Dir(dir), "outside", "decoy.safetensors"))
		return weightMap(`{"w": ` + string(decoy) + `}`)(dir)
	}})
	for _, shard := range []string{"a/b.safetensors", `C:\\x.safetensors`, "..", ".", ""} {
		add("48 a shard called "+shard, `{"w": "`+shard+`"}`, "weight_map")
	}
	add("52 a shard is missing", `{"w": "c.safetensors"}`, "c.safetensors: missing")
	add("53 a tensor is missing", `{"w": "a.safetensors", "v": "a.safetensors"}`, "a.safetensors", "v: missing")
	add("54 a tensor is in another shard too", `{"w": "a.safetensors", "v": "b.safetensors"}`, "b.safetensors", "also in")
	add("54 a tensor the index does not list", `{"v": "a.safetensors"}`, "a.safetensors", "not in this file")
	add("55 the map is an array", `[]`, "weight_map")
	add("55 the map holds numbers", `{"w": 1}`, "weight_map")
	add("55 the map is empty", `{}`, "weight_map")
	add("55 a tensor twice", `{"w": "a.safetensors", "w": "b.safetensors"}`, "comes twice")
	var many, one strings.Builder
	for i := range 1_000_000 {
		fmt.Fprintf(&many, `,"t%d":"%d.safetensors"`, i, i)
		fmt.Fprintf(&one, `,"t%d":"a.safetensors"`, i)
	}
	add("55 a million shards", "{"+many.String()[1:]+"}", "the limit Shards")
	add("55 a million tensors in one shard", "{"+one.String()[1:]+"}", "the limit Tensors")
	// The size an index claims is not used; what is wrong here is the one tensor.
	cases = append(cases, Case{"56 the total size is 2^63", []string{"text_encoder", "token_embedding.weight", "missing"}, false, func(dir string) error {
		return errors.Join(weightMap("{}")(dir), write(textIndex, []byte(`{"metadata": {"total_size": 9223372036854775808}, "weight_map": {"w": "a.safetensors"}}`))(dir))
	}})
	return cases
}

// files are not what they should be on the disk.
var files = []Case{
	{"49 a link out of the folder", []string{unetWeights, "cannot be opened"}, false, link(unetWeights, "../../outside/decoy.safetensors")},
	{"49 a folder that is a link", []string{"unet", "cannot be opened"}, false, func(dir string) error {
		return errors.Join(os.RemoveAll(filepath.Join(dir, "unet")), os.Symlink("../outside", filepath.Join(dir, "unet")))
	}},
	{"50 a link to itself", []string{unetWeights, "cannot be opened"}, false, link(unetWeights, "diffusion_pytorch_model.safetensors")},
	{"51 a folder", []string{unetWeights, "a folder"}, false, func(dir string) error {
		return errors.Join(remove(unetWeights)(dir), os.Mkdir(filepath.Join(dir, unetWeights), 0o777))
	}},
	{"51 a pipe", []string{unetWeights, "a pipe"}, false, func(dir string) error {
		return errors.Join(remove(unetWeights)(dir), Mkfifo(filepath.Join(dir, unetWeights)))
	}},
	{"51 a pipe as a config", []string{unetConfig, "a pipe"}, false, func(dir string) error {
		return errors.Join(remove(unetConfig)(dir), Mkfifo(filepath.Join(dir, unetConfig)))
	}},
	{"51 a device", []string{unetWeights, "cannot be opened"}, false, link(unetWeights, "/dev/zero")},
	{"57 a terabyte of nothing", []string{unetWeights, "conv_in.weight: shape [274877906944]"}, false, func(dir string) error {
		const n = 1 << 40
		header := fmt.Sprintf(`{"conv_in.weight":{"dtype":"F32","shape":[%d],"data_offsets":[0,%d]}}`, n/4, n)
		at := filepath.Join(dir, unetWeights)
		return errors.Join(os.WriteFile(at, Container(header, 0), 0o666), os.Truncate(at, int64(8+len(header)+n)))
	}},
}

var configs = func() (cases []Case) {
	add := func(name, file, field, value string, want ...string) {
		cases = append(cases, Case{name, append([]string{file}, want...), false, set(file, field, value)})
	}
	for _, field := range []string{"hidden_size", "num_hidden_layers", "num_attention_heads"} {
		for _, v := range []string{"0", "-1", "1e9", "1000000000", "2147483648", "1.5", `"768"`, "[1]", "{}", "true"} {
			add("58 "+field+" is "+v, textConfig, field, v, field)
		}
		cases = append(cases, Case{"58 " + field + " is NaN", []string{textConfig, field, "NaN"}, false, write(textConfig, []byte(`{"`+field+`": NaN}`))})
	}
	// null is the default of the format, which these weights do not fit.
	add("58 hidden_size is null", textConfig, "hidden_size", "null", "hidden_size: null")
	add("59 heads do not divide hidden_size", textConfig, "num_attention_heads", "5", "num_attention_heads")
	add("59 heads do not divide the channels", unetConfig, "attention_head_dim", "5", "attention_head_dim")
	add("59 groups do not divide the channels", unetConfig, "norm_num_groups", "5", "norm_num_groups")
	add("59 no groups", vaeConfig, "norm_num_groups", "0", "norm_num_groups")
	add("60 fewer types than blocks", unetConfig, "down_block_types", `["DownBlock2D"]`, "down_block_types")
	add("60 a million blocks", unetConfig, "block_out_channels", "["+strings.Repeat("16,", 1_000_000)+"16]", "block_out_channels")
	add("60 no blocks", vaeConfig, "block_out_channels", "[]", "block_out_channels")
	cases = append(cases, Case{"61 the weights are of other shapes: the field, ten of them, and how many more", []string{
		"block_out_channels: 24, want 16", unetWeights, "time_embedding.linear_1.weight", "down_blocks.0.resnets.0.conv1.weight", "\nand ", " more"}, false,
		set(unetConfig, "block_out_channels", "[24, 48]")})
	add("62 an unknown activation", textConfig, "hidden_act", `"relu"`, "hidden_act", "relu")
	add("62 an unknown scheduler", modelIndex, "scheduler", `["diffusers", "HeunDiscreteScheduler"]`, "HeunDiscreteScheduler")
	for _, v := range []string{"0", "1000000000000", "-1"} {
		add("62 num_train_timesteps is "+v, scheduler, "num_train_timesteps", v, "num_train_timesteps")
	}
	for _, v := range []string{"-0.1", "2", "1e400"} {
		add("62 beta_end is "+v, scheduler, "beta_end", v, "beta_end")
	}
	for _, v := range []string{"0", "1e-40", "-1e400"} {
		add("63 scaling_factor is "+v, vaeConfig, "scaling_factor", v, "scaling_factor")
	}
	for _, v := range []string{"0", "2147483648", "-64"} {
		add("63 sample_size is "+v, unetConfig, "sample_size", v, "sample_size")
	}
	for _, file := range []string{unetConfig, modelIndex, scheduler} {
		deep := `{"a": ` + strings.Repeat("[", 1<<21) + strings.Repeat("]", 1<<21-16) + `}`
		cases = append(cases, Case{"64 4 MiB of brackets in " + file, []string{file}, false, write(file, []byte(deep))})
		cases = append(cases, Case{"64 nested in " + file, []string{file, "the limit Nesting"}, false, set(file, "a", strings.Repeat("[", 65)+strings.Repeat("]", 65))})
		cases = append(cases, Case{"64 too large: " + file, []string{file, "the limit Config"}, false, set(file, "a", `"`+strings.Repeat("a", 5<<20)+`"`)})
	}
	return cases
}()

var tokenizers = []Case{
	{"65 the vocabulary is an array", []string{vocab, "not an object"}, false, write(vocab, []byte("[]"))},
	{"65 two tokens have one id", []string{vocab, "id 0, as"}, false, write(vocab, []byte(`{"a": 0, "b": 0}`))},
	{"65 a token twice", []string{vocab, "different"}, false, write(vocab, []byte(`{"a": 0, "a": 1}`))},
	{"65 an id is negative", []string{vocab, "a: -1"}, false, write(vocab, []byte(`{"a": -1}`))},
	{"65 an id past the embeddings", []string{vocab, "vocab_size"}, false, set(vocab, "zzz", "576")},
	{"65 no end token", []string{"tokenizer/tokenizer_config.json", "eos_token"}, false, set("tokenizer/tokenizer_config.json", "eos_token", `"zzz"`)},
	{"65 more than a million tokens", []string{vocab, "the limit Tokens"}, false, func(dir string) error {
		var b strings.Builder
		for i := range 1_200_000 {
			fmt.Fprintf(&b, `,"%d":%d`, i, i)
		}
		return write(vocab, []byte("{"+b.String()[1:]+"}"))(dir)
	}},
	{"65 a large vocabulary", []string{vocab, "the limit Tokenizer"}, false, func(dir string) error {
		return write(vocab, bytes.Repeat([]byte(" "), 33<<20))(dir)
	}},
	{"65 a merge of one part", []string{merges, "line 2"}, false, write(merges, []byte("#version: 0.2\na\n"))},
	{"65 a merge of three parts", []string{merges, "line 1"}, false, write(merges, []byte("a b c\n"))},
	{"65 a merge into no token", []string{merges, "line 1"}, false, write(merges, []byte("zq qz\n"))},
	{"65 merges on one line of 30 MB", []string{merges, "line 1"}, false, func(dir string) error {
		return write(merges, bytes.Repeat([]byte("ab"), 15<<20))(dir)
	}},
	{"65 merges of 100 MB", []string{merges, "the limit Tokenizer"}, false, func(dir string) error {
		return write(merges, bytes.Repeat([]byte("ab"), 50_000_000))(dir)
	}},
}

// values are weights that no picture comes of.
var values = func() (cases []Case) {
	for name, v := range map[string]float32{"not a number": float32(math.NaN()), "infinite": float32(math.Inf(1)), "so large that sums overflow": math.MaxFloat32} {
		cases = append(cases, Case{"66 a weight is " + name, []string{"unet.", "not finite"}, true, func(dir string) error {
			at := filepath.Join(dir, unetWeights)
			raw, err := os.ReadFile(at)
			if err != nil {
				return err
			}
			data := raw[8+binary.LittleEndian.Uint64(raw):]
			for i := 0; i < len(data); i += 4 {
				binary.LittleEndian.PutUint32(data[i:], math.Float32bits(v))
			}
			return os.WriteFile(at, raw, 0o666)
		}})
	}
	return cases
}()

func write(file string, raw []byte) func(dir string) error {
	return func(dir string) error { return os.WriteFile(filepath.Join(dir, file), raw, 0o666) }
}

func remove(file string) func(dir string) error {
	return func(dir string) error { return os.Remove(filepath.Join(dir, file)) }
}

func link(file, to string) func(dir string) error {
	return func(dir string) error {
		return errors.Join(remove(file)(dir), os.Symlink(to, filepath.Join(dir, file)))
	}
}

// set sets a field of a JSON object.
func set(file, field, value string) func(dir string) error {
	return func(dir string) error {
		at := filepath.Join(dir, file)
		raw, err := os.ReadFile(at)
		if err != nil {
			return err
		}
		raw = bytes.TrimSpace(raw)
		var v map[string]json.RawMessage
		if err := json.Unmarshal(raw, &v); err != nil {
			return err
		}
		delete(v, field)
		if raw, err = json.Marshal(v); err != nil {
			return err
		}
		// As text, since not every value is JSON.
		raw = append(raw[:len(raw)-1], fmt.Sprintf(`, %q: %s}`, field, value)...)
		return os.WriteFile(at, raw, 0o666)
	}
}
