"""Makes one picture with one rival on the CPU and prints a summary as "euryale generate --json" does.

    python bench/peers/cpu_rival.py --engine pytorch -m $EURYALE_MODELS/sd15

cpu.py runs this, each time in a new process, so that the peak memory is this picture's alone. Only Stable Diffusion
1.x and 2.x. A call of a network is timed as its users get it, with two exceptions in the rivals' favour: text encoding
is the second of two calls, and importing Python packages counts nowhere.
"""

import argparse
import json
import pathlib
import resource
import time

clock = time.perf_counter


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--engine", choices=list(ENGINES), required=True)
    p.add_argument("-m", dest="model", type=pathlib.Path, required=True)
    p.add_argument("-p", dest="prompt", default="a photograph of an astronaut riding a horse")
    p.add_argument("-s", dest="seed", type=int, default=7)
    p.add_argument("--size", type=int, default=512)
    p.add_argument("--steps", type=int, default=2)
    p.add_argument("--threads", type=int, default=2)
    p.add_argument("--export", action="store_true", help="onnxruntime: write the graphs beside the model, and stop")
    args = p.parse_args()
    if args.export:
        export(args)
        return
    summary = ENGINES[args.engine](args)
    t = summary["times"]
    print(json.dumps({**summary, "seconds": t["load"] + t["text"] + sum(t["steps"]) + t["decode"], "peak_rss_bytes": rss()}))


def rss():
    """The most memory that this process has used."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss << 10


def pytorch(args, channels_last=False):
    """The networks of diffusers in float32, with its attention through PyTorch's scaled dot product."""
    import diffusers
    import torch

    torch.set_num_threads(args.threads)
    torch.set_grad_enabled(False)
    before, start = rss(), clock()
    pipe = diffusers.StableDiffusionPipeline.from_pretrained(args.model, torch_dtype=torch.float32)
    if channels_last:
        pipe.unet.to(memory_format=torch.channels_last)
        pipe.vae.to(memory_format=torch.channels_last)
    load = clock() - start
    times = picture(args, pipe.tokenizer, pipe.scheduler, pipe.vae.config.scaling_factor,
                    text=lambda ids: pipe.text_encoder(ids)[0],
                    unet=lambda x, t, context: pipe.unet(x, t, context).sample,
                    decode=lambda z: pipe.vae.decode(z).sample)
    return {"times": {"load": load, **times}, "packages_rss_bytes": before,
            "versions": {"torch": torch.__version__, "torch's instructions": torch.backends.cpu.get_cpu_capability()}}


def onnxruntime(args):
    """The same networks as graphs, which export wrote. PyTorch is there for the scheduler and the random numbers."""
    import diffusers
    import onnxruntime as ort
    import torch
    from transformers import CLIPTokenizer

    options = ort.SessionOptions()
    options.intra_op_num_threads = args.threads
    before, start = rss(), clock()
    sessions = {name: ort.InferenceSession(exported(args, name), options, providers=["CPUExecutionProvider"])
                for name in ["text_encoder", "unet", "vae"]}
    load = clock() - start

    def run(name):
        inputs = [i.name for i in sessions[name].get_inputs()]
        return lambda *x: torch.from_numpy(sessions[name].run(None, {n: v.numpy() for n, v in zip(inputs, x)})[0])

    config = json.loads((args.model / "vae/config.json").read_text())
    times = picture(args, CLIPTokenizer.from_pretrained(args.model / "tokenizer"),
                    diffusers.DDIMScheduler.from_pretrained(args.model / "scheduler"), config["scaling_factor"],
                    text=run("text_encoder"), unet=run("unet"), decode=run("vae"))
    return {"times": {"load": load, **times}, "packages_rss_bytes": before}


def exported(args, name):
    return args.model.with_name(f"{args.model.name}-onnx-{args.size}") / name / "model.onnx"


def export(args):
    """Writes the graphs that are not there yet. Weights lie beside each graph: one file cannot hold them."""
    import torch
    from diffusers import AutoencoderKL, UNet2DConditionModel
    from transformers import CLIPTextModel

    class Decoder(torch.nn.Module):
        def __init__(self, vae):
            super().__init__()
            self.vae = vae

        def forward(self, z):
            return self.vae.decode(z, return_dict=False)[0]

    def unet():
        m = UNet2DConditionModel.from_pretrained(args.model / "unet")
        return m, (torch.randn(2, 4, side, side), torch.tensor(500), torch.randn(2, 77, m.config.cross_attention_dim))

    side = args.size // 8
    make = {
        "text_encoder": lambda: (CLIPTextModel.from_pretrained(args.model / "text_encoder", return_dict=False),
                                 (torch.zeros(2, 77, dtype=torch.int64),)),
        "unet": unet,
        "vae": lambda: (Decoder(AutoencoderKL.from_pretrained(args.model / "vae")), (torch.randn(1, 4, side, side),)),
    }
    names = {"text_encoder": ["input_ids"], "unet": ["sample", "timestep", "encoder_hidden_states"], "vae": ["latents"]}
    for part in make:
        path = exported(args, part)
        if path.exists():
            continue
        module, inputs = make[part]()
        path.parent.mkdir(parents=True, exist_ok=True)
        unfinished = path.with_suffix(".unfinished")
        with torch.no_grad():
            torch.onnx.export(module.eval(), inputs, str(unfinished), input_names=names[part], opset_version=17, dynamo=False)
        unfinished.rename(path)


def picture(args, tokenizer, scheduler, scaling, text, unet, decode):
    """Two prompts, args.steps denoising steps with guidance, and the decoder, around an engine's networks."""
    import torch

    ids = tokenizer(["", args.prompt], padding="max_length", truncation=True, max_length=77, return_tensors="pt").input_ids
    text(ids)
    start = clock()
    context = text(ids)
    times = {"text": clock() - start, "steps": []}
    latents = torch.randn((1, 4, args.size // 8, args.size // 8), generator=torch.Generator().manual_seed(args.seed))
    scheduler.set_timesteps(args.steps)
    for t in scheduler.timesteps:
        start = clock()
        unguided, guided = unet(latents.repeat(2, 1, 1, 1), t, context).chunk(2)
        latents = scheduler.step(unguided + 7.5 * (guided - unguided), t, latents).prev_sample
        times["steps"].append(clock() - start)
    start = clock()
    pixels = decode(latents / scaling)
    times["decode"] = clock() - start
    if not torch.isfinite(pixels).all():
        raise ArithmeticError("the picture has values that are not finite")
    return times


def sdcpp(args, **flags):
    """stable-diffusion.cpp reads the folder itself and keeps the weights in float16; flash attention is on. Its two
    passes of a step, with and without the prompt, run one after the other."""
    import stable_diffusion_cpp as sd

    events = []  # (what, when)

    @sd.sd_log_callback
    def log(level, line, data):
        for end in ["get_learned_condition completed", "sampling completed", "decode_first_stage completed"]:
            if end in line.decode(errors="replace"):
                events.append((end.split()[0], clock()))

    before, start = rss(), clock()
    model = sd.StableDiffusion(model_path=str(args.model), n_threads=args.threads, flash_attn=True, vae_decode_only=True,
                               rng_type="cpu", verbose=False, **flags)
    load = clock() - start
    sd.sd_set_log_callback(log, None)
    begun = clock()
    model.generate_image(prompt=args.prompt, width=args.size, height=args.size, cfg_scale=7.5, sample_method="euler",
                         sample_steps=args.steps, seed=args.seed,
                         progress_callback=lambda step, steps, seconds: events.append(("step", clock())))
    at = dict(events)
    steps = [at["get_learned_condition"]] + [when for what, when in events if what == "step"][-args.steps:]
    times = {"load": load, "text": at["get_learned_condition"] - begun, "steps": [b - a for a, b in zip(steps, steps[1:])],
             "decode": at["decode_first_stage"] - at["sampling"]}
    return {"times": times, "packages_rss_bytes": before}


ENGINES = {
    "pytorch": pytorch,
    "pytorch channels-last": lambda args: pytorch(args, channels_last=True),
    "onnxruntime": onnxruntime,
    "stable-diffusion.cpp": sdcpp,
    "stable-diffusion.cpp, direct convolutions": lambda args: sdcpp(args, diffusion_conv_direct=True, vae_conv_direct=True),
}

if __name__ == "__main__":
    main()
