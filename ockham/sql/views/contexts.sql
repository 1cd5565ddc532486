-- One row per batch (hook 'batch'), evaluation and consolidation: input and result of the chain.
-- event_id: ID of the event
-- hook: batch, on_evaluate or on_consolidate
-- task_loss: loss of the batch before any update, nats/token
-- superseded: true if a later attempt resumed from a checkpoint before it
-- updated: true if the chain allowed this batch to update the weights
-- applied_update: true if the optimizer took a step
-- learning_rate: as the chain left it; base_learning_rate is the schedule's
-- seconds: duration of each stage, by name
-- custom: the plugins' own metrics, by name
-- first_decision: sequence of the first decision about it, null without one
-- decisions: number of decisions about the batch
select event_id, run_id, attempt, "rank", * exclude (event_id, run_id, attempt, "rank")
from raw_contexts
