-- Everything that a log says is missing: gaps, recoveries after a crash, halts on a full disk.
-- kind: gap, recovered or halted
-- missing: events that are not in the log; null where nobody can know
-- cut_bytes: bytes of an unfinished line that were cut and kept
-- message: in words
select run_id, attempt, rank, sequence, time, split_part(type, '.', 3) as kind, data ->> '$.reason_code' as reason_code,
    coalesce((data ->> '$.count')::bigint, (data ->> '$.lost_events')::bigint) as missing,
    (data ->> '$.cut_bytes')::bigint as cut_bytes, data ->> '$.message' as message
from events
-- The range is what a scan can filter by before it reads the payload; the list alone takes nine times as long.
where type between 'ockham.log.gap.v1' and 'ockham.log.recovered.v1'
    and type in ('ockham.log.gap.v1', 'ockham.log.recovered.v1', 'ockham.log.halted.v1')
