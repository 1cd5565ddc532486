-- Every return of the weights to the anchor or to a saved state.
-- decision_id: decision that requested it
-- anchor_iter_num: iteration of the restored weights
-- drift: relative drift before the rollback
-- duration_seconds: duration in seconds
-- snapshot_id: saved state that was restored; null for the anchor
-- weights_sha256: digest of the restored weights; null for the anchor
-- after_rollback: skip_data if the rows since the restored state are never read again, or repeat; null if unknown
-- next_position: position in the data that the next iteration reads
select run_id, attempt, rank, sequence, time, iter_num, data ->> '$.decision_id' as decision_id,
    (data ->> '$.anchor_iter_num')::bigint as anchor_iter_num, (data ->> '$.drift')::double as drift,
    (data ->> '$.seconds')::double as duration_seconds, data ->> '$.snapshot_id' as snapshot_id,
    data ->> '$.weights_sha256' as weights_sha256, data ->> '$.after_rollback' as after_rollback,
    (data ->> '$.next_position')::bigint as next_position, superseded, signed, counted
from events where type = 'ockham.rollback.performed.v1'
