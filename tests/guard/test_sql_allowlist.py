"""Allow-list: queries that only read views are accepted, everything else is refused."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ockham import resources
from ockham.catalog.views import load_question, question_names
from ockham.errors import QueryError
from ockham.guard import check_query

VIEWS = [*resources.VIEWS, "odr_evidence"]

ALLOWED = """
select * from decisions
from decisions
from decisions select plugin, count(*) group by all
select plugin, count(*) as n from decisions group by all having n > 3 order by n desc limit 5 offset 1
with d as (select * from decisions), e as (select * from d) select count(*) from e
select * from decisions union all select * from decisions
select * from (values (1, 'a'), (2, 'b')) t(x, y)
select d.plugin, r.policy from decisions d join runs r using (run_id) where d.iter_num between 1 and 5
select * from decisions d anti join runs r using (run_id)
select iter_num // 100 * 100 as b, avg(updated::int) from gate_decisions group by all
select quantile_cont(observed, 0.5), stddev_samp(observed), corr(observed, threshold) from decisions
select row_number() over (partition by plugin order by sequence) as n from decisions qualify n = 1
select arg_max(loss, iter_num), any_value(plugin), bool_and(accepted) from memory_decisions group by plugin
select numbers['z'], changes[1].field, map_keys(numbers) from decisions
select unnest(changes) from decisions
select list_transform(changes, lambda c: c.field) from decisions
select content -> '$.targets', content ->> '$.name', json_extract(content, '$.x') from policies
select case when observed > 1 then 'big' else 'small' end from decisions
select coalesce(threshold, 0), nullif(observed, 0) from decisions
select date_trunc('hour', time), extract(minute from time), strftime(time, '%H') from decisions
select epoch_ms(time) from decisions
select lower(plugin) || '-' || upper(action), plugin like 'g%', plugin ilike 'G%' from decisions
select regexp_matches(plugin, 'a.e') from decisions
select * exclude (changes) replace (upper(plugin) as plugin) from decisions
select * from range(10) t(i), generate_series(1, 3) s(j)
select cast(observed as integer), try_cast(plugin as double), observed::varchar from decisions
select exists (select 1 from runs), (select max(iter_num) from contexts) from decisions
select plugin in (select policy from runs) from decisions
select isnan(observed), isfinite(observed), abs(observed) from decisions
select round(observed, 2), ln(observed), exp(1) from decisions
select count(*) filter (where shadow) from decisions
select sum(observed) over (order by sequence rows between 5 preceding and current row) from decisions
pivot_is_not_a_name_here_so_this_line_is_skipped
select plugin, lag(observed) over w from decisions window w as (order by sequence)
with recursive t(n) as (select 1 union all select n + 1 from t where n < 5) select * from t
select $name, $iter + 1
with decisions as (select * from decisions where shadow) select count(*) from decisions
with x as (select 1 as a) select a from x union all select a from x
with x as (select 1 as a) select * from (with y as (from x) select * from y) z where a in (from x)
with recursive t(n) as (select 1 union all select n + 1 from t where n < 5), u as (from t) select * from u
select * from runs r, lateral (select max(iter_num) as n from contexts c where c.run_id = r.run_id) l
from runs pivot (count(*) for policy in ('balanced', 'tight'))
select plugin, count(*) from decisions group by rollup (plugin) order by all
select 1 /* /* nested */ ; drop table runs */
pivot runs on policy using count(*)
pivot (from decisions select plugin, action) on action in ('SKIP', 'UPDATE') using count(*) group by plugin
from (pivot decisions on action using count(*) group by plugin)
unpivot decisions on observed, threshold into name kind value number
select * from decisions tablesample reservoir(10) repeatable (42)
select * from decisions using sample 10% (bernoulli, 42)
select count(*) from events where time > now() - interval 10 minute and time < localtimestamp
select today(), current_time, localtime, get_current_timestamp(), transaction_timestamp()
select format('{:.2f} {}', observed, plugin), printf('%8.3f', observed) from decisions
select lpad(plugin, 10, ' '), rpad(plugin, 9, '.'), bar(1, 0, 5), bar(observed, 0, 5, 20) from decisions
"""

REFUSED = """
insert into runs values (1)
update runs set run_id = 'x'
delete from runs
drop table runs
drop view decisions
create table x as select 1
create or replace view decisions as select 1
create temp table x (a int)
create macro f(a) as a
create secret (type s3)
alter table runs add column x int
truncate runs
copy runs to '/tmp/x.csv'
copy (select 1) to '/tmp/x'
copy runs from '/tmp/x.csv'
export database '/tmp/x'
import database '/tmp/x'
attach '/tmp/x.db'
attach ':memory:' as m
detach m
use memory
install httpfs
load httpfs
set memory_limit = '100GB'
reset memory_limit
pragma database_list
pragma version
call pragma_version()
checkpoint
vacuum
analyze
begin
commit
rollback
explain select 1
explain analyze delete from runs
describe runs
summarize runs
show tables
show all tables
prepare p as select 1
execute p
deallocate p
select 1; select 2
select 1; drop table runs
with x as (insert into runs values (1) returning *) select * from x
with x as (delete from runs returning *) select * from x
with x as (copy runs to '/tmp/x') select * from x
with x as (update runs set run_id = '' returning *) select * from x
select * from read_csv('/etc/passwd')
select * from read_csv_auto('/etc/passwd')
select * from read_text('/etc/passwd')
select * from read_blob('/etc/passwd')
select * from read_parquet('/tmp/*.parquet')
select * from read_json('/etc/passwd')
select * from read_json_auto('x')
select * from parquet_scan('x')
select * from parquet_metadata('x')
select * from glob('/*')
select * from sniff_csv('/etc/passwd')
select * from '/etc/passwd'
select * from "/etc/passwd"
select * from 'https://example.org/x.parquet'
select * from 's3://bucket/x.parquet'
select * from "runs/a/run.json"
select * from sqlite_scan('x', 'y')
select * from postgres_scan('x', 'y', 'z')
select * from duckdb_settings()
select * from duckdb_secrets()
select * from duckdb_tables()
select * from duckdb_functions()
select * from duckdb_logs
select * from duckdb_extensions()
select * from pragma_table_info('runs')
select * from information_schema.tables
select * from pg_catalog.pg_class
select * from pg_class
select * from sqlite_master
select * from main.runs
select * from memory.main.runs
select * from system.information_schema.tables
select * from raw_runs
select * from raw_events
select * from plugin_uses
select * from attempt_cuts
select * from arrow_scan(1, 2, 3)
select * from query('drop table runs')
select * from query_table('raw_runs')
select * from repeat_row(1, num_rows := 1000000000)
select * from test_all_types()
select * from checkpoint()
select * from force_checkpoint()
select * from summary((select 1))
select getenv('HOME')
select current_setting('memory_limit')
select getvariable('x')
select repeat('x', 2000000000)
select lpad('x', 2000000000, 'y')
select rpad('x', 2000000000, 'y')
select list_resize([1], 2000000000)
select printf('%2000000000d', 1)
select format('{:2000000000}', 1)
select bar(1, 0, 2000000000, 2000000000)
select array_resize([1], 1000000000)
select bitstring('1', 2000000000)
select nextval('s')
select setseed(0.5)
select random()
select uuid()
select gen_random_uuid()
select md5_number('x')
select version()
select current_database()
select current_user
select pg_sleep(10)
select sleep_ms(10000)
select txid_current()
select write_log('x')
select read_text('/etc/passwd')
select load_extension('x')
select system('id')
select http_get('http://example.org')
select json_execute_serialized_sql('x')
select * from json_execute_serialized_sql('x')
select json_serialize_sql('select 1')
select * into x from runs
select * from runs for update
select * from runs using sample 10%
select * from runs tablesample 10%
select * from no_such_view
select no_such_function(1)
select main.no_such(1)
select * from runs, lateral (select * from read_text('/etc/passwd'))
select (select content from read_text('/etc/passwd'))
select * from runs where exists (select * from '/etc/passwd')
select * from runs order by (select count(*) from glob('*'))
values (getenv('HOME'))
(delete from runs)
from '/etc/passwd'
from read_text('/etc/passwd')
table runs_that_are_not
with x as materialized (select * from '/etc/passwd') select * from x
select * from x, x as y
select 'a' from runs group by getenv('x')
select list_transform([1], lambda x: getenv('HOME'))
select sum(getenv('x')) over () from runs
with raw_runs as (select * from raw_runs) select * from raw_runs
with attempt_cuts as (select * from attempt_cuts) select * from attempt_cuts
with plugin_uses as (from plugin_uses) from plugin_uses
with sqlite_master as (select * from sqlite_master) select * from sqlite_master
with duckdb_settings as (from duckdb_settings) from duckdb_settings
with "/etc/passwd" as (select * from "/etc/passwd") select * from "/etc/passwd"
with recursive plugin_uses as (select * from plugin_uses) select * from plugin_uses
with recursive plugin_uses(x) as (select run_id from plugin_uses union all from plugin_uses) from plugin_uses
with recursive p(x) as (select sql from sqlite_master union all select x from p where false) select * from p
with recursive plugin_uses(x) as (select 1 except select x from plugin_uses) select * from plugin_uses
with recursive attempt_cuts(x) as (select 1 union from attempt_cuts union select 2) from attempt_cuts
with a as (select * from attempt_cuts), attempt_cuts as (select 1) select * from a
with a as (with attempt_cuts as (select 1) select * from attempt_cuts) select * from attempt_cuts
select * from (with attempt_cuts as (select 1) select 1) t, attempt_cuts
(with attempt_cuts as (select 1) select * from attempt_cuts) union all select * from attempt_cuts
with show as (select 1) select * from (show tables)
with "describe" as (select 1) select * from (describe runs)
with x as (from runs) from x, lateral (from attempt_cuts)
with x as (from runs) select * from x where run_id in (with y as (from attempt_cuts) from y)
select * from runs natural join attempt_cuts
select * from runs positional join attempt_cuts
select * from runs asof join attempt_cuts on true
select * from runs semi join attempt_cuts using (run_id)
from runs select * where run_id = (from sqlite_master select any_value(sql))
select ('HOME').getenv()
select run_id.getenv() from runs
select struct_pack(a := getenv('x'))
select {'a': getenv('x')}
select [getenv(x) for x in ['a']]
select map {'a': getenv('x')}
select columns(lambda c: getenv(c)) from runs
select * replace (getenv('x') as run_id) from runs
select list_transform(['HOME'], lambda x: x.getenv())
select 1 from runs limit (select count(*) from glob('*'))
select * from range((select count(*) from glob('*')))
select * from unnest((select list(content) from read_text('/etc/passwd')))
select 1 union select content from read_text('/etc/passwd')
select 1 where 'x' in (from sqlite_master select sql)
values ((select sql from sqlite_master limit 1))
select array(select sql from sqlite_master)
select exists(table attempt_cuts)
table attempt_cuts
(table attempt_cuts)
select * from ATTEMPT_CUTS
select * from "attempt_cuts"
select try(getenv('x'))
select constant_or_null(1, getenv('x'))
select in_search_path('a', 'b')
select current_query()
select current_schemas(true)
select pg_get_viewdef(1)
select 1 from runs group by cube(getenv('a'))
select sum(1) filter (where getenv('a') = 'x')
select sum(1) over (partition by getenv('a'))
select 1 qualify getenv('a') = ''
pivot attempt_cuts on run_id using count(*)
pivot read_csv('/etc/passwd') on a using count(*)
pivot runs on getenv('HOME') using count(*)
pivot runs on run_id using getenv('HOME')
unpivot attempt_cuts on run_id into name n value v
from (unpivot sqlite_master on sql into name n value v)
select format('{:{}}', 1, 2000000000)
select format('{0:{1}}', 1, 2000000000)
select printf('%*d', 2000000000, 1)
select format(plugin, 1) from decisions
select format('a' || '{:2000000000}', 1)
select lpad('x', 1 + 2000000000, 'y')
select lpad('x', iter_num, 'y') from contexts
select 'x'.lpad(2000000000, 'y')
select main.lpad('x', 2000000000, 'y')
select plugin.lpad(2000000000, 'y') from decisions
select '{:2000000000}'.format(1)
select list_transform(['x'], lambda x: x.rpad(2000000000, 'y'))
select lpad(count := 2000000000, string := 'x', fill := 'y')
select lpad()
select format()
select bar(1, 0, 2, iter_num * 1000000) from contexts
select * from runs using sample reservoir(10 rows)
select * from (from runs tablesample 5 rows) t
select * from (describe runs)
select * from (summarize runs)
select * from (show tables)
with x as (describe runs) from x
with x as (pragma version) from x
with x as (call pragma_version()) from x
with x as (explain select 1) from x
with x as (attach '/tmp/x') from x
with x as (set memory_limit = '1TB') from x
with x as (install httpfs) from x
with x as (drop table runs) from x
with x as (create table y as select 1) from x
select $$a$$; drop table runs
select 1) as a limit 1; drop table runs; select * from (select 1
select nan() from runs
select 'nan'::double from runs, '/etc/passwd'
"""


@pytest.mark.parametrize("sql", [line for line in ALLOWED.strip().splitlines() if " " in line])
def test_query_that_only_reads_views_is_accepted(sql):
    """Typical queries of analysts are accepted."""
    check_query(sql, VIEWS)


@pytest.mark.parametrize("sql", REFUSED.strip().splitlines())
def test_query_with_other_access_is_refused(sql):
    """Writes, settings, files, network, system tables, memory bombs and unknown functions are refused."""
    with pytest.raises(QueryError):
        check_query(sql, VIEWS)


MESSAGES = {
    "select random()": r"function 'random' is refused; .* hash\(iter_num, 42\)",
    "select getenv('HOME')": r"function 'getenv' is refused; variables of the environment cannot be read",
    "select no_such(1)": r"function 'no_such' is refused; it is not in the list of accepted functions",
    "select medain(observed) from decisions": r"did you mean 'median'",
    "select format('{:5000}', 1)": r"constant text with widths up to 1000, such as format\('\{:.3f\}', x\)",
    "select lpad('a', 5000, 'b')": r"'lpad' is refused here; its argument 2 must be a number up to 1000",
    "select * from runs using sample 10%": r"TABLESAMPLE reservoir\(10\) REPEATABLE \(42\)",
    "from (summarize runs)": r"SUMMARIZE is refused inside a query; write it as a query of its own",
    "explain select 1": r"EXPLAIN is refused; `ockham query --explain` shows the plan",
    "attach 'x'": r"ATTACH is refused; a query starts with SELECT, FROM, .*, SHOW",
}


@pytest.mark.parametrize("sql", MESSAGES)
def test_refusal_contains_reason_or_alternative(sql):
    """The message contains the typed name and what to write instead."""
    with pytest.raises(QueryError, match=MESSAGES[sql]) as caught:
        check_query(sql, VIEWS)
    assert len(str(caught.value)) < 250


@pytest.mark.parametrize("name", question_names())
def test_saved_question_is_accepted(name):
    """The saved questions follow the rules of user SQL."""
    check_query(load_question(name).sql, VIEWS)


INVALID_TEXTS = [
    "",
    ";",
    "select 1 --\r; drop table runs",
    "--",
    "/* */",
    "'",
    '"',
    "select * from",
    "\0",
    "select 1" + " " * 200_000,
    "select " + "(" * 5_000 + "1" + ")" * 5_000,
    "select " + "+".join(["1"] * 15_000),
]


@pytest.mark.parametrize("sql", INVALID_TEXTS)
def test_invalid_text_raises_query_error(sql):
    """Empty, incomplete, deeply nested and long text raises a QueryError."""
    with pytest.raises(QueryError):
        check_query(sql, VIEWS)


@given(st.text(max_size=200))
def test_any_text_raises_only_query_error(text):
    """For any text the check passes or raises a QueryError."""
    try:
        check_query(text, VIEWS)
    except QueryError:
        pass
