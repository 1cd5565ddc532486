"""Log a training with Lightning."""

import lightning
import torch

from ockham.integrations.lightning import OckhamCallback

STEPS = 60
VOCAB_SIZE = 32


class Model(lightning.LightningModule):
    """Predicts the next token from the present one."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = torch.nn.Sequential(torch.nn.Embedding(VOCAB_SIZE, 32), torch.nn.Linear(32, VOCAB_SIZE))

    def compute_loss(self, batch: list[torch.Tensor]) -> torch.Tensor:
        """Return the loss in nats per token."""
        return torch.nn.functional.cross_entropy(self.layers(batch[0]), batch[1])

    def training_step(self, batch: list[torch.Tensor], _: int) -> torch.Tensor:
        """Return the loss. The callback calls the plugins after this method."""
        return self.compute_loss(batch)

    def validation_step(self, batch: list[torch.Tensor], _: int) -> None:
        """Log the metric that the callback reads. Do not call `training_step` here."""
        self.log("val_loss", self.compute_loss(batch))

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """Return the optimizer."""
        return torch.optim.AdamW(self.parameters(), lr=1e-2)


def make_batches(count: int) -> torch.utils.data.DataLoader:
    """Return batches of 16 random tokens, each with the token that follows it."""
    tokens = torch.randint(0, VOCAB_SIZE, (16 * count,))
    pairs = torch.utils.data.TensorDataset(tokens, (tokens + 1) % VOCAB_SIZE)
    return torch.utils.data.DataLoader(pairs, batch_size=16)


lightning.seed_everything(1)
callback = OckhamCallback(
    policy="balanced",
    run_id="lightning",
    monitor="val_loss",
    facts={"vocab_size": VOCAB_SIZE},
    count_tokens=lambda batch: batch[1].numel(),
)
trainer = lightning.Trainer(
    max_steps=STEPS,
    val_check_interval=20,
    callbacks=[callback],
    accelerator="cpu",
    logger=False,
    enable_checkpointing=False,
)
trainer.fit(Model(), make_batches(STEPS), make_batches(2))
