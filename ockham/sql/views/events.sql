-- Every line of every log, in its envelope; decisions and contexts have their own views.
-- event_id: ID of the event (UUIDv7)
-- run_id: ID of the run
-- attempt: start or resume that wrote it, from 1
-- rank: process that wrote it, from 0
-- sequence: position in its log, from 0, without gaps; the leaf of the Merkle tree
-- time: when it was appended, UTC; a label, never an order
-- type: CloudEvents type
-- subject: iter/N, run or log
-- iter_num: optimizer step, if the event belongs to one
-- data: the payload as JSON; null for decisions and contexts
-- superseded: true if a later attempt resumed from a checkpoint before it
select e.event_id, e.run_id, e.attempt, e.rank, e.sequence, e.time, e.type, e.subject, e.iter_num, e.data,
    e.superseded
from raw_events e
