"""A reference of the same shape as nanoGPT: train.py and model.py with its settings, output and seed."""

from __future__ import annotations

from pathlib import Path

MODEL = """
import torch

class Bigram(torch.nn.Module):
    def __init__(self, vocab_size, n_embd):
        super().__init__()
        self.embedding = torch.nn.Embedding(vocab_size, n_embd)
        self.head = torch.nn.Linear(n_embd, vocab_size)

    def forward(self, inputs, targets):
        logits = self.head(self.embedding(inputs))
        return torch.nn.functional.cross_entropy(logits.flatten(0, 1), targets.flatten())
"""
TRAIN = """
import os, pickle, sys
sys.path.insert(0, os.getcwd())
import numpy as np
import torch
from model import Bigram

config = dict(word[2:].split("=", 1) for word in sys.argv[1:])
seed_offset = 0
torch.manual_seed(1337 + seed_offset)
data_dir = os.path.join("data", config["dataset"])
data = np.memmap(os.path.join(data_dir, "train.bin"), dtype=np.uint16, mode="r")
with open(os.path.join(data_dir, "meta.pkl"), "rb") as file:
    vocab_size = pickle.load(file)["vocab_size"]
micro_steps, block = int(config["gradient_accumulation_steps"]), int(config["block_size"])
model = Bigram(vocab_size, int(config["n_embd"])).to(config["device"])
optimizer = torch.optim.AdamW(model.parameters(), lr=float(config["learning_rate"]))
iter_num = 0
while True:
    for micro_step in range(micro_steps):
        starts = torch.randint(len(data) - block, (int(config["batch_size"]),))
        rows = np.stack([data[start : start + block + 1].astype(np.int64) for start in starts])
        rows = torch.from_numpy(rows)
        loss = model(rows[:, :-1], rows[:, 1:]) / micro_steps
        loss.backward()
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)
    if iter_num % int(config["log_interval"]) == 0:
        print(f"iter {iter_num}: loss {loss.item() * micro_steps:.4f}, time 1.00ms, mfu -100.00%")
    iter_num += 1
    if iter_num > int(config["max_iters"]):
        break
"""


def write_reference(folder: Path) -> Path:
    """Write the reference into a new folder. Return the folder."""
    folder.mkdir()
    (folder / "model.py").write_text(MODEL, encoding="utf-8")
    (folder / "train.py").write_text(TRAIN, encoding="utf-8")
    return folder
