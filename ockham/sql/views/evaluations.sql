-- Every measured validation loss.
-- trigger: SCHEDULE, CONSOLIDATION or USER
-- val_loss: mean loss, nats/token
-- standard_error: standard error of the mean over batches
-- tokens: number of evaluated tokens
-- duration_seconds: duration in seconds
select run_id, attempt, rank, sequence, time, iter_num, data ->> '$.trigger' as trigger,
    (data ->> '$.val_loss')::double as val_loss, (data ->> '$.standard_error')::double as standard_error,
    (data ->> '$.tokens')::bigint as tokens, (data ->> '$.seconds')::double as duration_seconds, superseded, signed
from events where type = 'ockham.evaluation.recorded.v1'
