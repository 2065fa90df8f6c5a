"""Trains the model that Euryale embeds and writes it to model/ in the diffusers layout.

    python train.py            about 40 minutes on two cores
    python check.py            reads pictures of scenes it has not seen

Needs the packages of internal/golden/requirements.txt.
"""

import argparse
import copy
import json
import math
import pathlib
import time

import torch
import torch.nn.functional as F
from diffusers import AutoencoderKL, DDIMScheduler, StableDiffusionPipeline, UNet2DConditionModel
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer
from transformers.models.clip.tokenization_clip import bytes_to_unicode

import scenes

TOKENS = 32  # the longest prompt


def write_tokenizer(folder):
    """A byte-pair vocabulary in which every word of the prompts is one token and any other text is possible."""
    words = sorted({w for s in scenes.combinations()[0] for w in scenes.prompt(*s).split()})
    split = {w: tuple(w[:-1]) + (w[-1] + "</w>",) for w in words}
    merges = []
    while any(len(s) > 1 for s in split.values()):
        pairs = [p for s in split.values() for p in zip(s, s[1:])]
        best = max(sorted(set(pairs)), key=pairs.count)
        merges.append(best)
        for w, s in split.items():
            out = []
            for t in s:
                if out and (out[-1], t) == best:
                    out[-1] += t
                else:
                    out.append(t)
            split[w] = tuple(out)
    symbols = list(bytes_to_unicode().values())
    vocabulary = symbols + [s + "</w>" for s in symbols] + ["".join(m) for m in merges]
    vocabulary += ["<|startoftext|>", "<|endoftext|>"]
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "vocab.json").write_text(json.dumps({t: i for i, t in enumerate(vocabulary)}, ensure_ascii=False))
    (folder / "merges.txt").write_text("\n".join(["#version: 0.2"] + [" ".join(m) for m in merges]) + "\n")
    tok = CLIPTokenizer(folder / "vocab.json", folder / "merges.txt", model_max_length=TOKENS, pad_token="<|endoftext|>")
    tok.save_pretrained(folder)
    return tok


def batches(train, size, rng):
    while True:
        pick = torch.randint(len(train), (size,), generator=rng)
        chosen = [train[i] for i in pick.tolist()]
        yield chosen, scenes.draw(chosen, rng)


def schedule(step, steps, peak):
    return peak * min(1, (step + 1) / 100) * (0.5 + 0.5 * math.cos(math.pi * step / steps)) + 1e-6


class Average:
    """Exponential moving average of a model's weights."""

    def __init__(self, model):
        self.model = copy.deepcopy(model).requires_grad_(False)

    def update(self, model, step):
        decay = min(0.999, (1 + step) / (10 + step))
        with torch.no_grad():
            for a, w in zip(self.model.parameters(), model.parameters()):
                a.lerp_(w, 1 - decay)


def train_vae(train, steps, rng):
    vae = AutoencoderKL(
        block_out_channels=(32, 64, 64), layers_per_block=1, norm_num_groups=1, latent_channels=4, sample_size=scenes.SIDE,
        down_block_types=("DownEncoderBlock2D",) * 3, up_block_types=("UpDecoderBlock2D",) * 3,
    )
    # One group: with more, a norm over an almost plain picture would take its colour away.
    torch.nn.init.constant_(vae.quant_conv.bias[4:], -4)  # begin with little noise on the latents; the KL term adds it
    opt = torch.optim.AdamW(vae.parameters(), lr=1e-3, weight_decay=1e-4)
    average, start = Average(vae), time.time()
    for step, (_, x) in zip(range(steps), batches(train, 8, rng)):
        for group in opt.param_groups:
            group["lr"] = schedule(step, steps, 2e-3)
        dist = vae.encode(x).latent_dist
        z = dist.mean + dist.std * torch.randn(dist.mean.shape, generator=rng)
        y = vae.decode(z).sample
        loss = F.mse_loss(y, x) + 0.3 * F.l1_loss(y, x) + 1e-4 * dist.kl().mean() / dist.mean[0].numel()
        opt.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(vae.parameters(), 1)
        opt.step()
        average.update(vae, step)
        if step % 100 == 99:
            print(f"vae {step + 1}/{steps} loss {loss:.4f} {time.time() - start:.0f}s", flush=True)
    return average.model.eval()


def models(tok, cross):
    end = len(tok) - 1
    text = CLIPTextModel(CLIPTextConfig(
        vocab_size=len(tok), hidden_size=cross, intermediate_size=4 * cross, num_hidden_layers=2, num_attention_heads=4,
        max_position_embeddings=TOKENS, hidden_act="quick_gelu", projection_dim=cross,
        bos_token_id=end - 1, eos_token_id=end, pad_token_id=end,
    ))
    torch.nn.init.normal_(text.text_model.embeddings.token_embedding.weight, std=0.1)
    net = UNet2DConditionModel(
        sample_size=scenes.SIDE // 4, in_channels=4, out_channels=4, block_out_channels=(64, 96, 112), layers_per_block=1,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
        cross_attention_dim=cross, attention_head_dim=4, norm_num_groups=16,
    )
    return text, net


def train_unet(train, vae, tok, sched, steps, batch, rng, save):
    text, net = models(tok, 96)
    both = torch.nn.ModuleList([text, net])
    average = Average(both)
    opt = torch.optim.AdamW(both.parameters(), lr=1e-3, weight_decay=1e-3)
    ids = lambda prompts: tok(prompts, padding="max_length", max_length=TOKENS, truncation=True, return_tensors="pt").input_ids
    table = {s: ids(scenes.prompt(*s))[0] for s in train}
    nothing, start, running = ids("")[0], time.time(), 0
    cache_scenes, cache = encode(train, vae, 48, rng)
    scale = vae.config.scaling_factor
    for step in range(steps):
        for group in opt.param_groups:
            group["lr"] = schedule(step, steps, 2e-3)
        pick = torch.randint(len(cache), (batch,), generator=rng).tolist()
        x = cache[pick] * scale
        drop = torch.rand(batch, generator=rng) < 0.1
        tokens = torch.stack([nothing if d else table[cache_scenes[i]] for i, d in zip(pick, drop)])
        # Half the steps are spread evenly, half favour the noisy end, where the scene is decided.
        t = (torch.rand(batch, generator=rng) ** torch.where(torch.rand(batch, generator=rng) < 0.5, 1.0, 0.5) * 1000).long().clamp(max=999)
        noise = torch.randn(x.shape, generator=rng)
        v = sched.get_velocity(x, noise, t)
        out = net(sched.add_noise(x, noise, t), t, text(tokens).last_hidden_state).sample
        loss = F.mse_loss(out, v)
        opt.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(both.parameters(), 1)
        opt.step()
        average.update(both, step)
        running += 0.02 * (loss.item() - running)
        if step % 200 == 199:
            print(f"unet {step + 1}/{steps} loss {running:.4f} {time.time() - start:.0f}s", flush=True)
        if step % 1000 == 999:
            save(average.model)
    save(average.model)


def encode(train, vae, per, rng):
    """Latents of every scene, drawn per times."""
    chosen, out = [s for s in train for _ in range(per)], []
    with torch.no_grad():
        for i in range(0, len(chosen), 256):
            dist = vae.encode(scenes.draw(chosen[i : i + 256], rng)).latent_dist
            out.append(dist.mean)
    return chosen, torch.cat(out)


def main():
    p = argparse.ArgumentParser()
    p.add_argument("--out", type=pathlib.Path, default=pathlib.Path(__file__).parent / "model")
    p.add_argument("--vae-steps", type=int, default=2000)
    p.add_argument("--steps", type=int, default=5000)
    p.add_argument("--batch", type=int, default=32)
    p.add_argument("--vae", type=pathlib.Path, help="take the autoencoder from this folder")
    args = p.parse_args()
    torch.set_num_threads(2)
    torch.manual_seed(0)
    train, _ = scenes.combinations()
    tok = write_tokenizer(args.out / "tokenizer")
    if args.vae:
        vae = AutoencoderKL.from_pretrained(args.vae).eval()
    else:
        rng = torch.Generator().manual_seed(0)
        vae = train_vae(train, args.vae_steps, rng)
        _, z = encode(train, vae, 4, rng)
        vae.register_to_config(scaling_factor=round(1 / z.std().item(), 5))
        vae.save_pretrained(str(args.out) + "-vae")
    # Linear betas end with almost no signal, so the colour of the ground is not guessed from the noise.
    sched = DDIMScheduler(beta_start=0.0001, beta_end=0.02, beta_schedule="linear", clip_sample=False, set_alpha_to_one=True,
                          prediction_type="v_prediction", timestep_spacing="trailing", steps_offset=1)

    def save(both):
        text, net = both
        pipe = StableDiffusionPipeline(vae=vae, text_encoder=text, tokenizer=tok, unet=net, scheduler=sched, safety_checker=None,
                                       feature_extractor=None, requires_safety_checker=False)
        copy.deepcopy(pipe).to(torch.float16).save_pretrained(args.out)
        # The scale at which the pictures are read; check.py --guidance reads them at others.
        index = pathlib.Path(args.out) / "model_index.json"
        index.write_text(json.dumps(json.loads(index.read_text()) | {"_euryale_guidance_scale": 3}, indent=2, sort_keys=True) + "\n")

    torch.manual_seed(1)
    train_unet(train, vae, tok, sched, args.steps, args.batch, torch.Generator().manual_seed(1), save)


if __name__ == "__main__":
    main()
