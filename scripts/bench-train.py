#!/usr/bin/env python3
"""One epoch of the paper's recipe in PyTorch, on made-up pictures: the peer of trainer/benches/epoch.rs.

Channels-last, and bfloat16 autocast where a step is faster with it. The default allocator settings, as PyTorch comes.
"""
import math
import time

import torch
import torchvision

PICTURES, SIZE, BATCH, THREADS = 160, 224, 32, 2
torch.set_num_threads(THREADS)
torch.manual_seed(0)
network = torchvision.models.mobilenet_v2(num_classes=1).to(memory_format=torch.channels_last).train()
adam = torch.optim.Adam(network.parameters(), lr=1e-4)
pixels = torch.randint(256, (PICTURES, 3, SIZE, SIZE), dtype=torch.uint8)
labels = (torch.arange(PICTURES) % 2 == 0).float()


def augment(pictures):
    n = len(pictures)
    angle = (torch.rand(n) * 40 - 20) * math.pi / 180
    shift, scale = (torch.rand(n, 2) * 0.2 - 0.1) * 2, torch.rand(n) * 0.2 + 0.9
    mirror = torch.where(torch.rand(n) < 0.5, -1.0, 1.0)
    sine, cosine = angle.sin() / scale, angle.cos() / scale
    rows = torch.stack([cosine * mirror, -sine * mirror, shift[:, 0], sine, cosine, shift[:, 1]], 1).view(n, 2, 3)
    grid = torch.nn.functional.affine_grid(rows, pictures.shape, align_corners=False)
    return torch.nn.functional.grid_sample(pictures.float(), grid, align_corners=False)


def step(batch, bfloat16):
    pictures = (augment(pixels[batch]) / 255 - 0.5) / 0.5
    pictures = pictures.contiguous(memory_format=torch.channels_last)
    with torch.autocast("cpu", torch.bfloat16, enabled=bfloat16):
        logits = network(pictures)
    loss = torch.nn.functional.binary_cross_entropy_with_logits(logits.float().squeeze(1), labels[batch])
    adam.zero_grad()
    loss.backward()
    adam.step()
    return loss.item()


def timed(bfloat16, batches):
    start = time.perf_counter()
    for batch in batches:
        step(batch, bfloat16)
    return time.perf_counter() - start


def epoch():
    return torch.randperm(PICTURES).split(BATCH)


timed(False, epoch()[:1])
plain, half = timed(False, epoch()[:1]), timed(True, epoch()[:1])
bfloat16 = half < plain
timed(bfloat16, epoch())
kind = "bfloat16" if bfloat16 else "fp32"
print(f"PyTorch {torch.__version__}  {PICTURES} pictures, {SIZE} px, {THREADS} threads, {kind}: {timed(bfloat16, epoch()):.2f} s")
