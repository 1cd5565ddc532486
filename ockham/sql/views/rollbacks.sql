-- Every return of the weights to the anchor.
-- decision_id: decision that requested it
-- anchor_iter_num: iteration of the anchor
-- drift: relative drift before the rollback
-- duration_seconds: duration in seconds
select run_id, attempt, rank, sequence, time, iter_num, data ->> '$.decision_id' as decision_id,
    (data ->> '$.anchor_iter_num')::bigint as anchor_iter_num, (data ->> '$.drift')::double as drift,
    (data ->> '$.seconds')::double as duration_seconds, superseded, signed, counted
from events where type = 'ockham.rollback.performed.v1'
