"""Log a training with the Hugging Face Trainer."""

import torch
import transformers

from ockham.integrations.huggingface import OckhamCallback

STEPS = 60
VOCAB_SIZE = 32


def make_rows(count: int) -> list[dict[str, torch.Tensor]]:
    """Return sequences of eight consecutive tokens."""
    starts = torch.randint(0, VOCAB_SIZE, (count,))
    rows = [(start + torch.arange(8)) % VOCAB_SIZE for start in starts]
    return [{"input_ids": row, "labels": row} for row in rows]


transformers.set_seed(1)
model = transformers.GPT2LMHeadModel(
    transformers.GPT2Config(
        vocab_size=VOCAB_SIZE, n_positions=16, n_embd=16, n_layer=1, n_head=2, bos_token_id=0, eos_token_id=0
    )
)
arguments = transformers.TrainingArguments(
    "trainer-output",
    max_steps=STEPS,
    per_device_train_batch_size=4,
    learning_rate=1e-2,
    eval_strategy="steps",
    eval_steps=20,
    save_strategy="steps",
    save_steps=20,
    report_to=[],
    use_cpu=True,
)
trainer = transformers.Trainer(
    model,
    arguments,
    train_dataset=make_rows(4 * STEPS),
    eval_dataset=make_rows(16),
    callbacks=[OckhamCallback(policy="balanced", run_id="huggingface")],
)
trainer.train()
