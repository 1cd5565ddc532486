-- One row per batch (hook 'batch'), evaluation and consolidation: input and output of the chain.
-- event_id: ID of the event
-- hook: batch, on_evaluate or on_consolidate; 'batch' has the decisions of on_batch_start, on_gradients and on_batch_end
-- task_loss: loss of the batch before any update, nats/token
-- superseded: true if a later attempt resumed from an earlier iteration
-- signed: true if the newest tree head of the log covers the event; the signature of the head is checked, its root is not recomputed here
-- counted: true if the figures of a run count the row: signed, not superseded, rank 0
-- updated: true if the chain allowed this batch to update the weights
-- measured_gauges: gauges that this batch or evaluation measured; the others are carried over from an earlier one
-- applied_update: true if the optimizer took a step with a gradient, by measurement; null if nothing measured it
-- applied_learning_rates: learning rate of each parameter group at the moment of the step
-- clipped_grad_norm: L2 norm of the gradient after clipping, by measurement
-- weights_changed: true if a sample of the weights changed between start and end of the batch
-- refusal_cause: known cause of a step that was not taken
-- micro_steps: number of micro-batches of the step
-- learning_rate: value after the chain for this batch; base_learning_rate is the scheduled value
-- seconds: duration of each stage, by name
-- custom: metrics of the plugins, by name
-- first_decision: sequence of the first decision about it; null if there are no decisions; see decision_contexts
-- decisions: number of decisions about it
-- data_position: number of the batch in the order of the data; with seed, rank and micro_step it determines the rows of `ockham train`; null if the loop recorded none
-- data_indices: numbers of the rows, if the loop recorded them
-- data_digest: digest of the rows, if the loop recorded one; equal rows have equal digests
select event_id, run_id, attempt, "rank", * exclude (event_id, run_id, attempt, "rank"),
    signed and not superseded and "rank" = 0 as counted
from raw_contexts
