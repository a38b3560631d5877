"""The same features on Dask: in its local mode, and on a cluster of several processes."""

import pytest

from training.tests.test_features import EVERYTHING
from training.tests.test_partitions import HANDBOOK, of_everything, of_handbook, same_bits

dd = pytest.importorskip("dask.dataframe", reason="an optional extra")


@pytest.mark.parametrize(
    ("schema", "rows"), [(HANDBOOK, of_handbook), (EVERYTHING, of_everything)], ids=["handbook", "all"]
)
def test_it_equals_one_machine_bit_for_bit_however_the_rows_are_partitioned(schema, rows):
    from training.core.features.distributed import features

    events, labels, expected = rows()
    made = features(
        schema,
        dd.from_pandas(events.sample(frac=1, random_state=1), npartitions=5, sort=False),
        dd.from_pandas(labels, npartitions=3, sort=False),
    )
    made = made.compute(scheduler="sync").set_index("sequence").loc[events["sequence"]]
    same_bits(schema, made, expected)


def test_it_equals_one_process_bit_for_bit_on_a_cluster_of_processes():
    from distributed import Client, LocalCluster

    from training.core.features.distributed import features

    events, labels, expected = of_handbook()
    local = {"n_workers": 2, "threads_per_worker": 1, "processes": True, "dashboard_address": ":0"}
    with LocalCluster(**local) as cluster, Client(cluster) as client:
        made = features(
            HANDBOOK, dd.from_pandas(events, npartitions=4, sort=False), dd.from_pandas(labels, npartitions=2)
        )
        computed = client.compute(made).result(timeout=120)
        assert len(client.scheduler_info()["workers"]) == 2
    same_bits(HANDBOOK, computed.set_index("sequence").loc[events["sequence"]], expected)
