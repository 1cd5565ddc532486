"""Log a training with Lightning's manual optimization and two optimizers."""

import lightning
import torch

from ockham.integrations.lightning import OckhamCallback

STEPS = 60
VOCAB_SIZE = 32


class Model(lightning.LightningModule):
    """Predicts the next token from the present one. Each layer has an optimizer."""

    def __init__(self, callback: OckhamCallback) -> None:
        super().__init__()
        self.automatic_optimization = False
        self.callback = callback
        self.embedding = torch.nn.Embedding(VOCAB_SIZE, 32)
        self.head = torch.nn.Linear(32, VOCAB_SIZE)

    def training_step(self, batch: list[torch.Tensor], _: int) -> None:
        """Take one step with both optimizers, unless the plugins skip the batch."""
        loss = torch.nn.functional.cross_entropy(self.head(self.embedding(batch[0])), batch[1])
        with self.callback.batch(loss, tokens=batch[1].numel()) as verdict:
            if verdict.updated:
                self.manual_backward(loss)
            if verdict.takes_step:
                verdict.clip_gradients(self.parameters())
                for optimizer in self.optimizers():
                    optimizer.step()
                    optimizer.zero_grad()

    def configure_optimizers(self) -> list[torch.optim.Optimizer]:
        """Return one optimizer for each layer."""
        embedding = torch.optim.SGD(self.embedding.parameters(), lr=1.0)
        return [torch.optim.AdamW(self.head.parameters(), lr=1e-2), embedding]


lightning.seed_everything(1)
tokens = torch.randint(0, VOCAB_SIZE, (16 * STEPS,))
pairs = torch.utils.data.TensorDataset(tokens, (tokens + 1) % VOCAB_SIZE)
callback = OckhamCallback(
    policy="balanced", run_id="lightning-manual", facts={"max_iters": STEPS, "vocab_size": VOCAB_SIZE}
)
trainer = lightning.Trainer(
    max_epochs=1, callbacks=[callback], accelerator="cpu", logger=False, enable_checkpointing=False
)
trainer.fit(Model(callback), torch.utils.data.DataLoader(pairs, batch_size=16))
