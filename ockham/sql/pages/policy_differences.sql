-- In which settings do the policies of two runs differ?
-- run: ID of the first run
-- other: ID of the second run
with entries as (
    select r.run_id, unnest(from_json(p.content -> '$.plugins', '["json"]')) as plugin
    from runs r join policies p on p.run_id = r.run_id and p.policy_revision = r.policy_revision where r.run_id in ($run, $other)
), settings as (
    select run_id, plugin ->> '$.name' as plugin, unnest(json_keys(plugin -> '$.settings')) as setting, plugin as whole from entries
), flat as (
    select run_id, plugin, setting, whole -> '$.settings' ->> ('$."' || setting || '"') as value from settings
    union all select run_id, plugin ->> '$.name', 'shadow', plugin ->> '$.shadow' from entries
)
select coalesce(a.plugin, b.plugin) as plugin, coalesce(a.setting, b.setting) as setting, a.value as this_run, b.value as other_run
from (select * from flat where run_id = $run) a full join (select * from flat where run_id = $other) b using (plugin, setting)
where a.value is distinct from b.value order by all
