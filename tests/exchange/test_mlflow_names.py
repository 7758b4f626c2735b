"""Any name finds a key that MLflow takes, and its way back. MLflow's own validation is the oracle."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from mlflow.utils.validation import _validate_metric_name, _validate_param_name, _validate_tag_name

from claimbook.exchange.mlflow_names import legal_keys, original_names, original_tags

ODD = st.text(st.sampled_from("@./_:- a1가\n*\\=%"), max_size=8)


@given(st.sets(ODD | st.text(max_size=300), max_size=8))
def test_every_name_gets_a_key_of_its_own_that_mlflow_takes_and_that_leads_back(names):
    keys = legal_keys(names)
    assert keys.keys() == names
    assert len(set(keys.values())) == len(names)
    tags = original_tags(keys)
    for key in [*keys.values(), *tags]:
        _validate_metric_name(key)
        _validate_param_name(key)
        _validate_tag_name(key)
        assert len(key) <= 250
    back = original_names(tags)
    assert {back.get(key, key) for key in keys.values()} == names


def test_a_retrieval_metric_is_called_as_mlflow_calls_its_own():
    assert legal_keys(["recall@1", "loss", "val/정확도"]) == {
        "loss": "loss",
        "recall@1": "recall_at_1",
        "val/정확도": "val/정확도",
    }


def test_a_name_that_mlflow_takes_keeps_its_key_from_one_that_must_change():
    assert legal_keys(["recall@1", "recall_at_1"]) == {
        "recall@1": "recall_at_1_2",
        "recall_at_1": "recall_at_1",
    }


@pytest.mark.parametrize(("name", "key"), [("a//b", "a__b"), ("../up", "__up"), ("", "_"), ("a:b", "a_b")])
def test_a_name_that_reads_as_another_path_is_flattened(name, key):
    assert legal_keys([name]) == {name: key}
