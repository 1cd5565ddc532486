-- One row per batch (hook 'batch'), evaluation and consolidation: input and output of the chain.
-- event_id: ID of the event
-- hook: batch, on_evaluate or on_consolidate
-- task_loss: loss of the batch before any update, nats/token
-- superseded: true if a later attempt resumed from an earlier iteration
-- signed: true if the newest tree head of the log covers the event; the signature of the head is checked, its root is not recomputed here
-- updated: true if the chain allowed this batch to update the weights
-- applied_update: true if the optimizer took a step
-- learning_rate: value after the chain; base_learning_rate is the scheduled value
-- seconds: duration of each stage, by name
-- custom: metrics of the plugins, by name
-- first_decision: sequence of the first decision about it; null if there are no decisions
-- decisions: number of decisions about it
select event_id, run_id, attempt, "rank", * exclude (event_id, run_id, attempt, "rank")
from raw_contexts
