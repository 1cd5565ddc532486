-- Every event of every log, with its envelope; decisions and contexts have separate views.
-- event_id: ID of the event (UUIDv7)
-- run_id: ID of the run
-- attempt: number of the start or resume that wrote it, from 1
-- rank: process that wrote it, from 0
-- sequence: position in its log, from 0, without gaps; index of the leaf in the Merkle tree
-- time: time when it was appended, UTC; not suitable for ordering
-- type: CloudEvents type
-- subject: iter/N, run or log
-- iter_num: optimizer step; null if the event does not belong to a step
-- data: payload as JSON; null for decisions and contexts
-- superseded: true if a later attempt resumed from an earlier iteration
-- signed: true if the newest tree head of the log covers the event; the signature of the head is checked, its root is not recomputed here
-- counted: true if the figures of a run count the row: signed, not superseded, rank 0
select e.event_id, e.run_id, e.attempt, e.rank, e.sequence, e.time, e.type, e.subject, e.iter_num, e.data,
    e.superseded, e.signed, e.signed and not e.superseded and e.rank = 0 as counted
from raw_events e
