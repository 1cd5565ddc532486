-- Every measured validation loss.
-- trigger: SCHEDULE, CONSOLIDATION or USER
-- val_loss: mean loss, nats/token
-- standard_error: standard error of the mean over batches
-- tokens: number of evaluated tokens
-- duration_seconds: duration in seconds
-- weights_checksum: checksum of the evaluated weights; null if the run watches no optimizer
select run_id, attempt, rank, sequence, time, iter_num, data ->> '$.trigger' as trigger,
    (data ->> '$.val_loss')::double as val_loss, (data ->> '$.standard_error')::double as standard_error,
    (data ->> '$.tokens')::bigint as tokens, (data ->> '$.seconds')::double as duration_seconds,
    data ->> '$.weights_checksum' as weights_checksum, superseded, signed, counted
from events where type = 'ockham.evaluation.recorded.v1'
