-- Missing events that a log reports: gaps, recoveries after a crash, halts on a full disk.
-- kind: gap, recovered or halted
-- missing: number of missing events; null if it cannot be known
-- cut_bytes: bytes of an incomplete line that were cut and saved
-- message: description
select run_id, attempt, rank, sequence, time, split_part(type, '.', 3) as kind, data ->> '$.reason_code' as reason_code,
    coalesce((data ->> '$.count')::bigint, (data ->> '$.lost_events')::bigint) as missing,
    (data ->> '$.cut_bytes')::bigint as cut_bytes, data ->> '$.message' as message,
    signed
from events
-- The range lets a scan filter before it reads the payload. With only the list the query takes nine times as long.
where type between 'ockham.log.gap.v1' and 'ockham.log.recovered.v1'
    and type in ('ockham.log.gap.v1', 'ockham.log.recovered.v1', 'ockham.log.halted.v1')
