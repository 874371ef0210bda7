"""The user's own data: what other programs write is read as it was meant, and said where it was a guess."""

import numpy as np
import pytest

import featurephase as fp
from featurephase.foundation.errors import FeaturephaseWarning, InputError
from featurephase.problem import GradientDescent, Problem, Student, Teacher
from featurephase.problem.data import UserData, load_data

X = np.random.default_rng(0).standard_normal((12, 3))
Y = np.repeat([0.0, 1.0], 6)


@pytest.mark.parametrize("index", [True, False])
@pytest.mark.parametrize("names", [None, ["a", "b", "c"]])
def test_what_pandas_writes_is_read_back(tmp_path, index, names):
    pandas = pytest.importorskip("pandas")
    pandas.DataFrame(X, columns=names).to_csv(tmp_path / "x.csv", index=index)
    pandas.Series(Y).to_csv(tmp_path / "y.csv", index=index)
    data = load_data(tmp_path / "x.csv", labels=tmp_path / "y.csv")
    np.testing.assert_array_equal(data.features, X)
    np.testing.assert_array_equal(data.labels, Y)
    words = "; ".join(data.notes)
    assert ("the first row of x.csv" in words) is (names is None)
    assert ("the first column of x.csv has no name and is left out as an index" in words) is index
    assert ("the first label, 0, is taken as a header" in words) is (not index)


def test_a_header_can_be_said(tmp_path):
    path = tmp_path / "x.csv"
    path.write_text("0,1\n0.5,2\n3,4\n")
    assert load_data(path).features.shape == (2, 2)
    assert load_data(path, header="no").features.shape == (3, 2)
    path.write_text("5,7\n0.5,2\n3,4\n")
    assert load_data(path).features.shape == (3, 2)
    assert load_data(path).notes == ()
    assert load_data(path, header="yes").features.shape == (2, 2)
    with pytest.raises(InputError, match="header = 'perhaps': must be auto, yes or no"):
        load_data(path, header="perhaps")


def test_labels_that_begin_with_0_are_kept_where_they_fit(tmp_path):
    np.savetxt(tmp_path / "x.csv", X, delimiter=",")
    np.savetxt(tmp_path / "y.csv", Y, fmt="%d")
    data = load_data(tmp_path / "x.csv", labels=tmp_path / "y.csv")
    np.testing.assert_array_equal(data.labels, Y)
    assert data.notes == ()


def test_tables_tensors_and_other_types_of_numbers():
    pandas = pytest.importorskip("pandas")
    expected = UserData(X, Y)
    for features, labels in (
        (X.tolist(), Y.tolist()),
        (pandas.DataFrame(X), pandas.Series(Y)),
        (pandas.DataFrame(X), pandas.DataFrame(Y)),
        (X, Y.astype(bool)),
        (X, Y[:, None].astype(np.int8)),
    ):
        data = UserData(features, labels)
        np.testing.assert_array_equal(data.features, expected.features)
        np.testing.assert_array_equal(data.labels, expected.labels)
    single = UserData(X.astype(np.float32))
    assert single.features.dtype == np.float64
    np.testing.assert_allclose(single.features, X, rtol=1e-7)
    for bad in (X.astype(str), X.astype(complex), [[1.0, "a"], [2.0, 3.0]]):
        with pytest.raises(InputError, match="an array of real numbers is needed"):
            UserData(bad)
    with pytest.raises(InputError, match="held_out = 1"):
        UserData(X, held_out=1)


def test_capital_endings(tmp_path):
    np.save(tmp_path / "x.npy", X)
    (tmp_path / "x.npy").rename(tmp_path / "X.NPY")
    np.testing.assert_array_equal(load_data(tmp_path / "X.NPY").features, X)


def trained(loss, labels):
    problem = Problem(
        teacher=Teacher(1, "sign(g1)"), student=Student("tanh", [1.0]), loss=loss, training=GradientDescent(0.1, 2)
    )
    return fp.simulate(problem, data=UserData(X, labels), seeds=2, times=(), predicted=False, workers=1)


def test_labels_that_the_loss_does_not_expect_are_said_before_training():
    with pytest.warns(FeaturephaseWarning, match=r"the logistic loss expects -1 or \+1; 6 of 12 are others, such as 0"):
        trained("logistic", Y)
    with pytest.warns(FeaturephaseWarning, match="the cross_entropy loss expects 0 or 1; 6 of 12 are others"):
        trained("cross_entropy", 2 * Y - 1)
    trained("logistic", 2 * Y - 1)
    trained("cross_entropy", Y)
    trained("squared", 3 * Y)


def test_what_was_taken_for_granted_is_in_the_message(tmp_path):
    (tmp_path / "x.csv").write_text("0,1,2\n" + "\n".join(",".join(map(str, row)) for row in X))
    problem = Problem(
        teacher=Teacher(1, "g1"), student=Student("tanh", [1.0]), loss="squared", training=GradientDescent(0.1, 2)
    )
    found = fp.simulate(problem, data=load_data(tmp_path / "x.csv"), seeds=2, times=(), recovery=False, workers=1)
    assert "the first row of x.csv ('0,1,2') is taken as a header; --header no" in found.message
