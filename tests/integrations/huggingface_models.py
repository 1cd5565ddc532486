"""Models of a few thousand parameters, data and Trainer classes for the Hugging Face cells of the matrix."""

from __future__ import annotations

import torch
import transformers
from torch.nn import functional

VOCAB_SIZE = 34
PAD, EOS = 32, 33
LENGTH = 12
NO_DROPOUT = dict.fromkeys(("resid_pdrop", "embd_pdrop", "attn_pdrop"), 0.0)
SIZES = {"n_positions": 32, "n_embd": 16, "n_layer": 1, "n_head": 2}


def make_gpt2() -> transformers.PreTrainedModel:
    """Return a GPT-2 without dropout."""
    torch.manual_seed(1)
    config = transformers.GPT2Config(
        vocab_size=VOCAB_SIZE, **SIZES, **NO_DROPOUT, bos_token_id=EOS, eos_token_id=EOS, pad_token_id=PAD
    )
    return transformers.GPT2LMHeadModel(config)


def make_classifier() -> transformers.PreTrainedModel:
    """Return a GPT-2 that classifies rows into four classes."""
    torch.manual_seed(1)
    config = transformers.GPT2Config(
        vocab_size=VOCAB_SIZE, **SIZES, **NO_DROPOUT, num_labels=4, pad_token_id=PAD
    )
    return transformers.GPT2ForSequenceClassification(config)


def make_t5() -> transformers.PreTrainedModel:
    """Return a T5, whose forward takes the number of tokens and ignores it."""
    torch.manual_seed(1)
    sizes = {"d_model": 16, "d_kv": 8, "d_ff": 32, "num_layers": 1, "num_heads": 2}
    return transformers.T5ForConditionalGeneration(
        transformers.T5Config(vocab_size=VOCAB_SIZE, **sizes, dropout_rate=0.0, decoder_start_token_id=0)
    )


class MeanModel(transformers.PreTrainedModel):
    """A model of one's own that takes any argument and computes its own mean."""

    config_class = transformers.PretrainedConfig

    def __init__(self, config) -> None:
        super().__init__(config)
        self.embedding = torch.nn.Embedding(VOCAB_SIZE, 16)
        self.head = torch.nn.Linear(16, VOCAB_SIZE)
        self.post_init()

    def forward(self, input_ids, labels=None, **_):
        logits = self.head(self.embedding(input_ids))
        output = transformers.modeling_outputs.CausalLMOutput(logits=logits)
        if labels is not None:
            flat = logits[:, :-1].reshape(-1, VOCAB_SIZE)
            output["loss"] = functional.cross_entropy(flat, labels[:, 1:].reshape(-1))
        return output


def make_mean_model() -> transformers.PreTrainedModel:
    """Return the model of one's own."""
    torch.manual_seed(1)
    return MeanModel(transformers.PretrainedConfig())


def make_rows(count: int, *, padded: bool = False) -> list[dict]:
    """Return rows that count upwards. Some are harder than others. Padded rows have unequal lengths."""
    random = torch.Generator().manual_seed(2)
    rows = []
    for number in range(count):
        start = torch.randint(0, 32, (1,), generator=random)
        tokens = (start + torch.arange(LENGTH) * (1 + number // 4 % 3)) % 32
        labels = tokens.clone()
        if padded:
            labels[LENGTH - number % 5 * 2 :] = -100
        rows.append({"input_ids": tokens, "labels": labels})
    return rows


def make_class_rows(count: int) -> list[dict]:
    """Return rows with one class each."""
    return [{"input_ids": row["input_ids"], "labels": row["input_ids"][-1] % 4} for row in make_rows(count)]


class ZLossTrainer(transformers.Trainer):
    """Adds a term to the model's loss."""

    def compute_loss(self, model, inputs, return_outputs=False, num_items_in_batch=None):
        loss, output = super().compute_loss(
            model, inputs, return_outputs=True, num_items_in_batch=num_items_in_batch
        )
        loss = loss + output.logits.logsumexp(-1).pow(2).mean()
        return (loss, output) if return_outputs else loss


class LogitsTrainer(transformers.Trainer):
    """Computes the loss from logits, without labels in the model's inputs."""

    loss_is_scaled_for_ga = False

    def compute_loss(self, model, inputs, return_outputs=False, num_items_in_batch=None):
        labels = inputs.pop("labels")
        output = model(**inputs)
        flat = output.logits[:, :-1].reshape(-1, output.logits.shape[-1])
        loss = functional.cross_entropy(flat, labels[:, 1:].reshape(-1))
        return (loss, output) if return_outputs else loss


class TwoForwardTrainer(transformers.Trainer):
    """Calls the model twice for each loss."""

    def compute_loss(self, model, inputs, return_outputs=False, num_items_in_batch=None):
        first = super().compute_loss(model, dict(inputs), num_items_in_batch=num_items_in_batch)
        second = super().compute_loss(model, dict(inputs), num_items_in_batch=num_items_in_batch)
        return (first + second) / 2


class OutOfMemoryTrainer(transformers.Trainer):
    """Runs out of memory once, in the backward pass of the fourth batch."""

    calls = 0

    def training_step(self, *args, **kwargs):
        self.calls += 1
        if self.calls == 4:
            self.compute_loss(args[0], self._prepare_inputs(args[1]), num_items_in_batch=args[2])
            raise RuntimeError("CUDA out of memory.")
        return super().training_step(*args, **kwargs)


def summed_loss(outputs, labels, num_items_in_batch=None):
    """Return a loss function of a user: the sum, divided by the number of tokens as a tensor."""
    flat = outputs.logits[:, :-1].reshape(-1, outputs.logits.shape[-1])
    loss = functional.cross_entropy(flat, labels[:, 1:].reshape(-1), reduction="sum", ignore_index=-100)
    return loss / num_items_in_batch


def converted_loss(outputs, labels, num_items_in_batch=None):
    """Return the same loss, divided by a Python number."""
    return summed_loss(outputs, labels, int(num_items_in_batch))


def make_tokenizer():
    """Return a tokenizer of the words w0 to w31."""
    from tokenizers import Tokenizer, models, pre_tokenizers

    words = {f"w{number}": number for number in range(32)} | {"<pad>": PAD, "<eos>": EOS}
    tokenizer = Tokenizer(models.WordLevel(words, unk_token="<eos>"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return transformers.PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="<pad>", eos_token="<eos>", unk_token="<eos>"
    )


def make_texts(count: int) -> list[str]:
    """Return the rows as words."""
    return [" ".join(f"w{int(token)}" for token in row["input_ids"]) for row in make_rows(count)]


def make_pairs(count: int) -> list[dict]:
    """Return prompts, each with a chosen and a rejected completion."""
    rows = []
    for number, text in enumerate(make_texts(count)):
        words = text.split()
        rows.append(
            {
                "prompt": " ".join(words[:4]),
                "chosen": " " + " ".join(words[4:]),
                "rejected": " " + " ".join([f"w{number % 32}"] * 6),
            }
        )
    return rows
