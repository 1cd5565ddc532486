-- What people did: notes, changed policies, stopped runs, approved weights, waived constraints, and refused requests.
-- attempt: attempt in whose log it is; null for the ledger
-- iter_num: iteration of the note, or from which the change has an effect; null if it has none
-- event_id: ID of the event (UUIDv7)
-- kind: note.added, intervention.applied, stop.requested, checkpoint.approved, waiver.granted or request.refused
-- person: name that the person gave; it is signed, and only the key is evidence
-- reason: text of the note, or the reason
-- subject: changed settings, approved checkpoint, waived constraint, or refused file
-- changes: settings with the value before and after, as JSON; null if nothing was changed
-- weights_sha256: digest of the approved weights
-- verifier_key: key that signed the request
-- request_id: ID of the request
-- reason_code: why a request was refused
-- recorded_in: log or ledger
with person_events as (
    select run_id, attempt, sequence, time, iter_num, type, data, event_id, superseded, signed, 'log' as recorded_in
    from events where "rank" = 0 and type in ('ockham.note.added.v1', 'ockham.intervention.applied.v1',
        'ockham.stop.requested.v1', 'ockham.checkpoint.approved.v1', 'ockham.request.refused.v1')
    union all
    select run_id, null, null, time, (data ->> '$.iter_num')::bigint, type, data, event_id, false, signed, 'ledger'
    from raw_ledger_people
)
select run_id, attempt, sequence, time, iter_num, event_id,
    case type when 'ockham.note.added.v1' then 'note.added' when 'ockham.intervention.applied.v1' then 'intervention.applied'
        when 'ockham.stop.requested.v1' then 'stop.requested' when 'ockham.checkpoint.approved.v1' then 'checkpoint.approved'
        when 'ockham.waiver.granted.v1' then 'waiver.granted' else 'request.refused' end as kind,
    data ->> '$.by' as person, coalesce(data ->> '$.reason', data ->> '$.message') as reason,
    coalesce(data ->> '$.settings', data ->> '$.snapshot_id', data ->> '$.waived', data ->> '$.file') as subject,
    data ->> '$.changes' as changes, data ->> '$.weights_sha256' as weights_sha256, data ->> '$.key' as verifier_key,
    data ->> '$.request_id' as request_id, data ->> '$.reason_code' as reason_code, recorded_in, superseded, signed,
    signed and not superseded as counted
from person_events
