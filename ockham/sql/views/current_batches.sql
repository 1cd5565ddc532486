-- Batches that the figures of a run count, one row per micro-batch: signed, not superseded, of rank 0.
-- finite: true if the loss is finite
-- contributed: true if the loss is finite and the chain allowed the update: the batch added to a gradient
-- ends_step: true in the last micro-batch of its optimizer step; true in every row without accumulation
-- applied_update: true if the optimizer took a step in this row; under accumulation only the last micro-batch can
select *, isfinite(task_loss) as finite,
    updated and isfinite(task_loss) as contributed, micro_step + 1 >= micro_steps as ends_step
from contexts where hook = 'batch' and counted
