-- Which setting controls the gate of this run, and which values can a what-if compare?
-- run: run ID
select (g ->> 'name') || case
        when g ->> '$.settings.mode' = 'calibrated' then '.z=0..2:5'
        when g ->> '$.settings.mode' = 'fixed' or (g ->> '$.settings.mode' is null and g ->> '$.settings.surprise_threshold' is not null)
            then '.surprise_threshold=' || round((g ->> '$.settings.surprise_threshold')::double * 0.9, 3)
        else '.target=0.4' end as dial
from (select unnest(from_json(p.content -> '$.plugins', '["json"]')) as g
    from runs r join policies p on p.run_id = r.run_id and p.policy_revision = r.policy_revision where r.run_id = $run)
where g ->> 'use' = 'gate' limit 1
