"""The lattice's gradient: adjoint identities, finite differences, errors."""

import numpy as np
import pytest

import densefield as df
from densefield import reference
from gradient_checks import assert_gradient, central_differences, gradient_faults


def random_case(seed=0, num_points=40, dim=3, channels=4, spread=1.5):
    # Spread wide: a lattice with many missing vertices, whose blur is far from symmetric.
    rng = np.random.default_rng(seed)
    return (
        spread * rng.normal(size=(num_points, dim)),
        rng.normal(size=(num_points, channels)),
        rng.normal(size=(num_points, channels)),
    )


def test_grad_values_is_the_adjoint(backend):
    features, values, grad = random_case()
    lattice = df.PermutohedralLattice(features)
    other = np.random.default_rng(9).normal(size=values.shape)
    left = np.vdot(lattice.filter(other), grad)
    right = np.vdot(other, lattice.vjp(values, grad)[0])
    assert left == pytest.approx(right, rel=1e-12)  # sums of 160 terms round to about 1e-15


@pytest.mark.parametrize("dim", [1, 2, 3, 5, 8])
def test_grad_features_are_the_central_differences(backend, dim):
    features, values, grad = random_case(seed=dim, dim=dim)
    expected = central_differences(
        lambda f: float(np.vdot(df.PermutohedralLattice(f).filter(values), grad)), features
    )
    actual = df.PermutohedralLattice(features).vjp(values, grad)[1]
    assert_gradient(actual, expected)


def test_gradients_are_those_of_the_reference(backend):
    features, values, grad = random_case(num_points=300, dim=4, channels=21)
    by_values, by_features = df.PermutohedralLattice(features).vjp(values, grad)
    expected = reference.Lattice(features).filter_vjp(values, grad)
    assert_gradient(by_values, expected[0], 1e-12)  # a few hundred roundings
    assert_gradient(by_features, expected[1], 1e-12)


@pytest.mark.parametrize("channels", [1, 7, 33])
def test_any_number_of_channels(backend, channels):
    features, values, grad = random_case(channels=channels)
    by_values, by_features = df.PermutohedralLattice(features).vjp(values, grad)
    expected = reference.Lattice(features).filter_vjp(values, grad)
    assert_gradient(by_values, expected[0], 1e-12)
    assert_gradient(by_features, expected[1], 1e-12)


def test_checks_fail_on_a_zeroed_gradient():
    features, values, grad = random_case()
    by_features = df.PermutohedralLattice(features).vjp(values, grad)[1]
    faults = gradient_faults(np.zeros_like(by_features), by_features)
    assert faults == ["direction", "length", "bias", "error"]


def test_checks_fail_on_a_blur_in_forward_order():
    features, values, grad = random_case()
    lattice = df.PermutohedralLattice(features)
    wrong, right = lattice.filter(grad), lattice.vjp(values, grad)[0]
    assert gradient_faults(wrong, right) == ["direction", "length", "bias", "error"]
    # The usual mistake: a few percent to a quarter.
    assert np.linalg.norm(wrong - right) > 0.02 * np.linalg.norm(right)


def test_float32_is_close_to_float64(backend):
    features, values, grad = (x.astype(np.float32) for x in random_case(num_points=500))
    single = df.PermutohedralLattice(features).vjp(values, grad)
    double = df.PermutohedralLattice(features.astype(np.float64)).vjp(
        values.astype(np.float64), grad.astype(np.float64)
    )
    assert single[0].dtype == single[1].dtype == np.float32
    # Weights are differences of coordinates of size 10: 1e-6 of a cell; no point of this
    # seed lies so near a border that it changes its simplex.
    assert_gradient(single[0], double[0], 2e-5)
    assert_gradient(single[1], double[1], 2e-5)


def test_any_number_of_threads_gives_the_same_bits():
    features, values, grad = random_case(num_points=30000, dim=5)
    lattice = df.PermutohedralLattice(features)
    results = []
    for n in (1, 2, 3):
        with df.num_threads(n):
            results.append(lattice.vjp(values, grad))
    for result in results[1:]:
        np.testing.assert_array_equal(result[0], results[0][0])
        np.testing.assert_array_equal(result[1], results[0][1])


def test_flat_values_give_flat_gradients():
    features, values, grad = random_case(channels=1)
    lattice = df.PermutohedralLattice(features)
    flat, by_features = lattice.vjp(values[:, 0], grad[:, 0])
    assert flat.shape == (40,)
    np.testing.assert_array_equal(by_features, lattice.vjp(values, grad)[1])


def test_strides_do_not_matter_and_inputs_are_kept():
    features, values, grad = random_case()
    lattice = df.PermutohedralLattice(features)
    wide = np.zeros((80, 8))
    wide[::2, ::2] = values
    before = wide.copy()
    expected = lattice.vjp(values, grad)
    actual = lattice.vjp(wide[::2, ::2], np.asfortranarray(grad)[::-1][::-1])
    np.testing.assert_array_equal(actual[0], expected[0])
    np.testing.assert_array_equal(actual[1], expected[1])
    np.testing.assert_array_equal(wide, before)


def test_equal_points_have_the_same_gradient_by_features():
    lattice = df.PermutohedralLattice(np.full((6, 3), 0.3))
    by_features = lattice.vjp(np.ones(6), np.ones(6))[1]
    np.testing.assert_allclose(by_features, by_features[:1].repeat(6, axis=0), rtol=1e-14)


def test_grad_out_of_another_shape_is_an_error():
    features, values, grad = random_case()
    lattice = df.PermutohedralLattice(features)
    with pytest.raises(ValueError, match=r"grad_out must have the shape of the values, \(40, 4\)"):
        lattice.vjp(values, grad[:, :3])
    with pytest.raises(ValueError, match=r"grad_out must have shape \(40, C\)"):
        lattice.vjp(values, grad[:-1])


def test_grad_out_with_nan_is_an_error():
    features, values, grad = random_case()
    grad[3, 1] = np.nan
    with pytest.raises(ValueError, match="grad_out must be finite, got 1 NaN"):
        df.PermutohedralLattice(features).vjp(values, grad)
