"""Query the log of a run from Python."""

import random

import ockham

draw = random.Random(1)
with ockham.Run("balanced", run_id="queried", facts={"max_iters": 100, "vocab_size": 256}) as run:
    for iter_num in range(100):
        ctx = run.start_batch(iter_num, 5.0 - 0.02 * iter_num + draw.gauss(0, 0.1), learning_rate=1e-3)
        run.end_batch(ctx, stepped=ctx.updated)

# A catalog returns Arrow tables. Its SQL is trusted: it can read every file of this user.
catalog = ockham.Catalog("runs")
parameters = {"run": "queried"}
table = catalog.sql(
    "select reason_code, count(*) n from decisions where run_id = $run and counted group by all", parameters
)
for row in table.to_pylist():
    print(row["reason_code"], row["n"])

# A saved question. `ockham ask` lists them all.
for row in catalog.ask("update_rate", run="queried").to_pylist()[:3]:
    print(row["from_iter"], row["to_iter"], row["update_rate"])

# A guard runs SQL from other people in a restricted process.
with ockham.Guard("runs") as guard:
    result = guard.query("select count(*) decisions from decisions")
    print(result.table.to_pylist(), result.truncated)
