-- Every return of the weights to the anchor.
-- decision_id: the decision that asked for it
-- anchor_iter_num: iteration of the anchor weights
-- drift: relative drift before the rollback
-- duration_seconds: duration
select run_id, attempt, rank, sequence, time, iter_num, data ->> '$.decision_id' as decision_id,
    (data ->> '$.anchor_iter_num')::bigint as anchor_iter_num, (data ->> '$.drift')::double as drift,
    (data ->> '$.seconds')::double as duration_seconds, superseded
from events where type = 'ockham.rollback.performed.v1'
