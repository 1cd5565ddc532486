-- One row a batch (hook 'batch'), and one for each evaluation and consolidation: what the chain was given, and what it left.
-- event_id: ID of the event
-- hook: batch, on_evaluate or on_consolidate
-- task_loss: loss of the batch before any update, nats/token
-- superseded: whether a later attempt went back before it
-- updated: whether the chain let this batch update the weights
-- applied_update: whether the optimizer really took a step
-- learning_rate: as the chain left it; base_learning_rate is the schedule's
-- seconds: how long each stage took, by name
-- custom: the plugins' own metrics, by name
-- first_decision: sequence of the first decision about it, null without one
-- decisions: number of decisions about it
select event_id, run_id, attempt, "rank", * exclude (event_id, run_id, attempt, "rank")
from raw_contexts
