-- Which adapter does this run train, and does disabling it restore the base weights?
-- run: run ID
with e as (select type, data from events where run_id = $run and type in ('ockham.adapter.enabled.v1', 'ockham.adapter.reverted.v1') and counted)
select (select any_value((data ->> '$.added_params')::bigint) from e where type = 'ockham.adapter.enabled.v1') as added_params,
    (select any_value((data ->> '$.model_params')::bigint) from e where type = 'ockham.adapter.enabled.v1') as model_params,
    (select any_value(json_array_length(data -> '$.layers')) from e where type = 'ockham.adapter.enabled.v1') as layers,
    count(*) filter (type = 'ockham.adapter.reverted.v1') as reverts,
    count(*) filter (type = 'ockham.adapter.reverted.v1' and not (data ->> '$.identical')::boolean) as traces,
    median((data ->> '$.seconds')::double) filter (type = 'ockham.adapter.reverted.v1') as seconds
from e having count(*) > 0
