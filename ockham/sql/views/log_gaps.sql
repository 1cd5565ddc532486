-- Everything that a log reports as missing: gaps, recoveries after a crash, halts on a full disk.
-- kind: gap, recovered or halted
-- missing: number of events that are not in the log; null if unknown
-- cut_bytes: bytes of an unfinished line that were cut and stored
-- message: explanation for people
select run_id, attempt, rank, sequence, time, split_part(type, '.', 3) as kind, data ->> '$.reason_code' as reason_code,
    coalesce((data ->> '$.count')::bigint, (data ->> '$.lost_events')::bigint) as missing,
    (data ->> '$.cut_bytes')::bigint as cut_bytes, data ->> '$.message' as message
from events
-- A scan can filter by the range before it reads the payload. With the list only it takes nine times as long.
where type between 'ockham.log.gap.v1' and 'ockham.log.recovered.v1'
    and type in ('ockham.log.gap.v1', 'ockham.log.recovered.v1', 'ockham.log.halted.v1')
