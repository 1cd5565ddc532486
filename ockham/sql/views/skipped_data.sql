-- Every range of the training data that was not read. Later rows were read in its place.
-- iter_num: first iteration that reads rows after the range, or the iteration of the rollback
-- first_position: first position of the range, as data_position of the view contexts
-- last_position: last position of the range
-- skipped_by: user (the setting skip_data) or rollback
-- decision_id: decision that requested the rollback; null for the user
select run_id, attempt, rank, sequence, time, iter_num, (data ->> '$.first_position')::bigint as first_position,
    (data ->> '$.last_position')::bigint as last_position, data ->> '$.by' as skipped_by,
    data ->> '$.reason_code' as reason_code, data ->> '$.decision_id' as decision_id, superseded, signed,
    counted
from events where type = 'ockham.data.skipped.v1'
